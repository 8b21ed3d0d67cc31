import { randomBytes } from "node:crypto";
import { createStaticKey, type IstMeeting, LegPort, type Link, type OpenRequest } from "@isthmus/link";
import { implementation, implementationDetail } from "@isthmus/native";
import {
  type AllocationOffer,
  addressedFrame,
  CODES,
  type Code,
  decodeControlFrame,
  decodeInvite,
  encodeUnknownGeneration,
  fingerprintOf,
  type HostPort,
  type Invite,
  IsthmusError,
  LIMITS,
  type LocalService,
  parseHostPort,
  parseServiceRef,
  rotationTranscript,
  type ServiceReport,
  type StatusReport,
  type SubscriptionReport,
  type SubscriptionRequest,
  serviceRefText,
  toIsthmusError,
} from "@isthmus/protocol";
import type { Logger, Metrics } from "@isthmus/service";
import { AgentMetrics } from "./agent-metrics.ts";
import type { DeviceKey } from "./device-key.ts";
import { Directory } from "./directory.ts";
import {
  connectToIsb,
  type DeclareBody,
  type DeclareReply,
  type IsbSession,
  type IsbTarget,
  type ReachabilityBody,
  type ToldBody,
} from "./isb-connection.ts";
import { IstConnections, sessionReportOf } from "./ist-connections.ts";
import { Links } from "./links.ts";
import { reportPaths } from "./path-report.ts";
import { Pins } from "./pins.ts";
import { Provider } from "./provider.ts";
import { Services } from "./services.ts";
import { StateFile } from "./state.ts";
import { Subscription } from "./subscription.ts";

const TIDY_MS = 10_000;
/** How long a first login may take before the user is told why it does not work. */
const LOGIN_WAIT_MS = 15_000;
/** How often a login is looked at meanwhile. */
const LOGIN_CHECK_MS = 50;
/** What an ISB says of a login that no further attempt would change. */
const LOGIN_REFUSED: ReadonlySet<Code> = new Set([
  "invite-invalid",
  "unknown-device",
  "device-revoked",
  "user-disabled",
]);
/** A link asks the ISB for an allocation at most this often. */
const ALLOCATE_EVERY_MS = 500;
/** Sessions are asked for a sign of life at most this often. */
const SUSPECT_EVERY_MS = 1000;

export interface AgentOptions {
  version: string;
  /** Where the state is kept. */
  folder: string;
  key: DeviceKey;
  /** Takes direct legs; port 0: any free one. */
  direct: { enabled: boolean; port: number };
  /** Allows sessions over `ws://` to other hosts. */
  insecure: boolean;
  /** Streams that may be open at a time, in all. */
  mostStreams: number;
  metrics: Metrics;
  logger: Logger;
}

/**
 * The user daemon: one device of a user. Logs in to an ISB, provides services of this host and its LAN, uses those of
 * others through local ports. Needs no privilege.
 */
export class Agent {
  readonly #options: AgentOptions;
  readonly #logger: Logger;
  readonly #key: DeviceKey;
  /** New at each start: peers learn by it that keys and connections are gone. */
  readonly #boot = randomBytes(8).toString("hex");
  readonly #staticKey = createStaticKey();
  readonly #started = new Date();
  readonly #file: StateFile;
  readonly #pins: Pins;
  readonly #services: Services;
  readonly #provider: Provider;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #metrics: AgentMetrics;
  readonly #directory: Directory;
  #links: Links;
  #ists: IstConnections;
  #isb: IsbSession | undefined;
  #registration: { invite: string; device?: string } | undefined;
  /** Logins, logouts and changes of the key, one after the other. */
  #account: Promise<unknown> = Promise.resolve();
  readonly #legPort: LegPort;
  #legPortNumber: number | undefined;
  #reachability: ReachabilityBody | undefined;
  readonly #allocating = new WeakMap<Link, number>();
  #suspectedAt = Number.NEGATIVE_INFINITY;
  #tidy: NodeJS.Timeout | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#logger = options.logger;
    this.#key = options.key;
    this.#file = new StateFile(options.folder);
    this.#pins = new Pins(this.#file, options.logger);
    this.#services = new Services(this.#file);
    this.#provider = this.#createProvider();
    this.#directory = new Directory(() => this.#isb);
    this.#links = this.#createLinks();
    this.#ists = this.#createIsts();
    this.#legPort = new LegPort({
      find: (generation) => this.#links.find(generation),
      probed: (nonce) => this.#isb?.event("probed", { nonce: nonce.toString("base64url") }),
      refused: () => this.#metrics.linkEvent("leg-refused"),
    });
    this.#metrics = new AgentMetrics(options.metrics, {
      streams: () => this.#streams(),
      links: () => this.#links.all.length,
      services: () => this.#services.all.length,
      subscriptions: () => this.#subscriptions.size,
    });
  }

  async start(): Promise<void> {
    const { direct } = this.#options;
    if (direct.enabled) this.#legPortNumber = await this.#legPort.listen(direct.port);
    if (implementation !== "native") {
      this.#logger.warn({ why: implementationDetail }, "encryption runs in node:crypto, which is slower");
    }
    const { isb, subscriptions } = this.#file.state;
    if (isb) this.#connect(isb);
    for (const stored of subscriptions) {
      const subscription = new Subscription(this.#subscriptionWorld(), stored);
      this.#subscriptions.set(stored.id, subscription);
      await subscription.resume();
    }
    this.#tidy = setInterval(() => this.#tidyUp(), TIDY_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#tidy);
    for (const subscription of this.#subscriptions.values()) subscription.close();
    this.#links.close();
    this.#legPort.close();
    await Promise.all([this.#isb?.stop(), this.#ists.stop()]);
  }

  /** Why the daemon cannot do its job at the moment, if so. */
  get problem(): string | undefined {
    if (!this.#file.state.isb) return "not logged in: 'isthmus login INVITE'";
    return this.#isb?.state === "up" ? undefined : (this.#isb?.lastError?.message ?? "the ISB is not connected yet");
  }

  // Login

  /** @throws IsthmusError `invite-invalid`, or why the ISB refused */
  async login(inviteText: string, device?: string): Promise<{ user?: string; device?: string; isb: string }> {
    const invite = decodeInvite(inviteText);
    if (invite.role !== "daemon") throw new IsthmusError("invite-invalid", "this invite is for an IST");
    return this.#inTurn(() => this.#login(invite, device));
  }

  /** Forgets the ISB, and with it subscriptions and grants; services stay, for the next login. */
  logout(): Promise<void> {
    return this.#inTurn(async () => {
      for (const id of [...this.#subscriptions.keys()]) await this.unsubscribe(id);
      await this.#disconnect();
      this.#links.close();
      this.#services.revokeAll();
      this.#file.update((state) => {
        delete state.isb;
      });
    });
  }

  /** Each of them takes the session away and makes another: two at a time would leave one that nobody ends. */
  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#account.then(run);
    this.#account = turn.catch(() => undefined);
    return turn;
  }

  async #login(invite: Invite, device?: string): Promise<{ user?: string; device?: string; isb: string }> {
    const known = this.#file.state.isb;
    if (known && known.fingerprint !== invite.isb) {
      throw new IsthmusError("bad-request", `this device is logged in at ${known.origins[0]}: 'isthmus logout' first`);
    }
    await this.#disconnect();
    const target = {
      origins: invite.addresses.map((address) => `${invite.secure ? "wss" : "ws"}://${address}`),
      fingerprint: invite.isb,
      ...(invite.certificate ? { certificate: invite.certificate } : {}),
    };
    this.#registration = { invite: invite.token, ...(device === undefined ? {} : { device }) };
    const session = this.#connect(target);
    try {
      await whenLoggedIn(session);
    } catch (error) {
      await this.#disconnect();
      if (known) this.#connect(known);
      throw error;
    } finally {
      this.#registration = undefined;
    }
    const { user, device: name } = session.login!.reply;
    const owner = { ...(user === undefined ? {} : { user }), ...(name === undefined ? {} : { device: name }) };
    this.#file.update((state) => {
      state.isb = { ...target, ...owner };
    });
    return { isb: session.origin, ...owner };
  }

  async #disconnect(): Promise<void> {
    const session = this.#isb;
    this.#isb = undefined;
    await session?.stop();
    this.#down();
  }

  #down(): void {
    this.#services.offline();
    this.#reachability = undefined;
  }

  #connect(target: IsbTarget): IsbSession {
    const session = connectToIsb(
      {
        identity: this.#key.identity,
        boot: this.#boot,
        target,
        registration: () => this.#registration,
        allowInsecure: this.#options.insecure,
        logger: this.#logger.child({ part: "isb" }),
      },
      {
        declaration: () => this.#declaration(),
        declared: (reply) => this.#declared(reply),
        up: () => this.#up(),
        down: () => this.#down(),
        ask: (body) => this.#provider.ask(body),
        told: (body) => this.#told(body),
        renegotiate: (subscription) => this.#subscriptions.get(subscription)?.renegotiate(),
        ended: ({ subscription, code }) => this.#ended(subscription, new IsthmusError(code)),
        directory: (body) => this.#directory.update(body),
        reachability: (body) => {
          this.#reachability = body;
          this.#logger.info({ reachable: body.reachable, address: body.address, code: body.code }, "reachability");
        },
        control: (peer, frame) => this.#control(peer, frame),
      },
    );
    this.#isb = session;
    session.start();
    return session;
  }

  get #user(): string | undefined {
    return this.#isb?.login?.reply.user ?? this.#file.state.isb?.user;
  }

  #up(): void {
    this.#metrics.logins.inc();
    this.#directory.sessionUp();
    for (const subscription of this.#subscriptions.values()) subscription.retrySoon();
    // Opens that wait for a place to meet may ask for one now.
    for (const link of this.#links.all) link.meetingReady();
  }

  #declaration(): DeclareBody {
    return {
      services: this.#services.specs(),
      subscriptions: [...this.#subscriptions.values()].flatMap(({ held }) => (held ? [held] : [])),
      ...(this.#legPortNumber === undefined ? {} : { legPort: this.#legPortNumber }),
    };
  }

  #declared(reply: DeclareReply): void {
    for (const { name, code, message } of reply.services) {
      this.#services.declared(name, code === undefined ? "offered" : { code, message: message ?? "" });
      if (code !== undefined) this.#logger.warn({ service: name, code }, `the ISB refused a service: ${message}`);
    }
    for (const { subscription, code } of reply.subscriptions) {
      if (code !== undefined) this.#subscriptions.get(subscription)?.renegotiate();
    }
  }

  async #redeclare(): Promise<void> {
    const isb = this.#isb;
    if (isb?.state === "up") this.#declared(await isb.request("declare", this.#declaration()));
  }

  #requireIsb(): IsbSession {
    const isb = this.#isb;
    if (isb?.state === "up") return isb;
    throw isb?.lastError ?? new IsthmusError("not-logged-in", this.problem);
  }

  // Providing

  #createProvider(): Provider {
    return new Provider({
      identity: () => this.#key.identity,
      staticKey: this.#staticKey,
      services: this.#services,
      links: () => this.#links,
      isb: () => this.#isb,
      user: () => this.#user,
      requireIsb: () => this.#requireIsb(),
      redeclare: () => this.#redeclare(),
      useAllocation: (link, offer) => this.#useAllocation(link, offer),
      metrics: () => this.#metrics,
      logger: this.#logger,
    });
  }

  provide(service: LocalService, options: { take: boolean }): Promise<ServiceReport> {
    return this.#provider.provide(service, options);
  }

  withdraw(name: string): Promise<void> {
    return this.#provider.withdraw(name);
  }

  /** The ISB told who may use a service and where to meet; or, for an own subscription, another place. */
  #told(body: ToldBody): void {
    try {
      const own = this.#subscriptions.get(body.subscription);
      if (own) own.told(body);
      else this.#provider.told(body);
    } catch (error) {
      this.#logger.warn({ err: error, subscription: body.subscription }, "what the ISB told cannot be used");
    }
  }

  #ended(id: string, error: IsthmusError): void {
    const own = this.#subscriptions.get(id);
    if (own) own.ended(error);
    else this.#provider.end(id);
  }

  // Subscribing

  /** @throws IsthmusError what stands against it; nothing is kept then */
  async subscribe(request: SubscriptionRequest): Promise<SubscriptionReport> {
    const ref = parseServiceRef(request.service);
    const known = this.#find(serviceRefText(ref));
    if (known) throw new IsthmusError("bad-request", `already subscribed to ${known.ref}: 'isthmus unsubscribe' first`);
    if (this.#subscriptions.size >= LIMITS.subscriptionsPerDevice) throw new IsthmusError("too-many");
    const subscription = this.#createSubscription(request);
    this.#subscriptions.set(subscription.id, subscription);
    try {
      await subscription.subscribe(request.waitMs);
    } catch (error) {
      this.#subscriptions.delete(subscription.id);
      subscription.close();
      void this.#isb?.request("unsubscribe", { subscription: subscription.id }).catch(() => undefined);
      throw error;
    }
    return this.#subscriptionReport(subscription);
  }

  /**
   * A subscription that shall stand whenever it can, as a configuration file asks for it. Negotiates in the background;
   * one that is there already stays as it is.
   * @throws IsthmusError `bad-request` when the request itself is wrong
   */
  async keepSubscribed(request: SubscriptionRequest): Promise<void> {
    const ref = parseServiceRef(request.service);
    if (this.#find(serviceRefText(ref))) return;
    if (this.#subscriptions.size >= LIMITS.subscriptionsPerDevice) throw new IsthmusError("too-many");
    const subscription = this.#createSubscription(request);
    this.#subscriptions.set(subscription.id, subscription);
    await subscription.resume();
  }

  #createSubscription(request: SubscriptionRequest): Subscription {
    const { service, user, fingerprint } = parseServiceRef(request.service);
    const { plain, accept } = request;
    const pin = fingerprint === undefined ? {} : { fingerprint };
    return new Subscription(
      this.#subscriptionWorld(),
      { id: randomBytes(16).toString("base64url"), service, user, listen: [], plain, accept, ...pin },
      request.listen === undefined ? undefined : parseListen(request.listen),
    );
  }

  /** @param which SERVICE@USER or the subscription's id. @throws IsthmusError `no-such-subscription` */
  async unsubscribe(which: string): Promise<void> {
    const subscription = this.#find(which);
    if (!subscription) throw new IsthmusError("no-such-subscription", `there is no subscription '${which}'`);
    this.#subscriptions.delete(subscription.id);
    subscription.close();
    this.#file.update((state) => {
      state.subscriptions = state.subscriptions.filter(({ id }) => id !== subscription.id);
    });
    // The ISB notices at the next login if it does not hear it now.
    await this.#isb?.request("unsubscribe", { subscription: subscription.id }).catch(() => undefined);
  }

  #find(which: string): Subscription | undefined {
    const plain = which.split("#")[0]!;
    return this.#subscriptions.get(which) ?? [...this.#subscriptions.values()].find(({ ref }) => ref === plain);
  }

  #subscriptionWorld() {
    const agent = this;
    return {
      get identity() {
        return agent.#key.identity;
      },
      staticKey: this.#staticKey,
      pins: this.#pins,
      isb: () => this.#isb,
      obtainLink: (peer: string) => this.#links.obtain(peer),
      useAllocation: (link: Link, offer: AllocationOffer) => this.#useAllocation(link, offer),
      changed: (subscription: Subscription) => {
        if (!this.#subscriptions.has(subscription.id)) return;
        this.#file.update((state) => {
          const others = state.subscriptions.filter(({ id }) => id !== subscription.id);
          state.subscriptions = [...others, subscription.stored];
        });
      },
      logger: this.#logger,
    };
  }

  // Links

  #createLinks(): Links {
    return new Links(
      () => this.#key.identity,
      this.#staticKey,
      {
        sendViaIsb: (frame) => this.#isb?.binary(frame) ?? false,
        sendViaIst: (link, frame) => this.#ists.send(link, frame),
        admit: (link, request) => this.#admit(link, request),
        keysLost: (link) => {
          for (const subscription of this.#subscriptionsOf(link)) subscription.keysLost();
        },
        needAllocation: (link) => void this.#allocate(link, []),
        suspect: (link) => this.#suspect(link),
        streamEnded: (_link, subscription, code, side) => {
          this.#metrics.streamEnded(side, code);
          if (side === "opened") this.#subscriptions.get(subscription)?.refused(code);
        },
        flowRefused: (_link, subscription, code) => this.#subscriptions.get(subscription)?.refused(code),
        count: (event) => this.#metrics.linkEvent(event),
        isNeeded: (link) =>
          this.#subscriptionsOf(link).length > 0 ||
          this.#services.subscriptionsOf({ peer: link.peer }).length > 0 ||
          // What was opened under a grant that is over goes on until it ends.
          link.size > 0,
      },
      this.#logger,
    );
  }

  #createIsts(): IstConnections {
    return new IstConnections({
      identity: () => this.#key.identity,
      boot: this.#boot,
      allowInsecure: this.#options.insecure,
      replace: (link, ist) => void this.#allocate(link, [ist]),
      logger: this.#logger,
    });
  }

  #subscriptionsOf(link: Link): Subscription[] {
    return [...this.#subscriptions.values()].filter((subscription) => subscription.link === link);
  }

  /** The last word on what a peer opens. @throws IsthmusError the refusal */
  #admit(link: Link, request: OpenRequest): HostPort {
    const open = this.#links.all.reduce((sum, { size }) => sum + size, 0);
    if (open >= this.#options.mostStreams) throw new IsthmusError("too-many-opens");
    const own = this.#subscriptions.get(request.subscription);
    if (own) {
      if (own.link !== link) throw new IsthmusError("no-such-subscription");
      return own.admit(request);
    }
    return this.#provider.admit(link, request);
  }

  #useAllocation(link: Link, offer: AllocationOffer): IstMeeting {
    const meeting = link.setAllocation(offer);
    this.#ists.use(link, meeting);
    return meeting;
  }

  /** Asks the ISB for a place to meet, because there is none or its IST is away. */
  async #allocate(link: Link, avoid: string[]): Promise<void> {
    const now = performance.now();
    const subscription = this.#subscriptionsOf(link)[0]?.id ?? this.#services.subscriptionsOf({ peer: link.peer })[0];
    if (subscription === undefined || this.#isb?.state !== "up") return;
    if (now - (this.#allocating.get(link) ?? Number.NEGATIVE_INFINITY) < ALLOCATE_EVERY_MS) return;
    this.#allocating.set(link, now);
    try {
      const { allocation } = await this.#isb.request("allocate", { subscription, avoid });
      this.#useAllocation(link, allocation);
    } catch (error) {
      this.#logger.info({ code: toIsthmusError(error).code }, "no other IST yet");
      // Whatever waits for a place to meet asks again.
      setTimeout(() => link.meetingReady(), ALLOCATE_EVERY_MS).unref();
    }
  }

  /** A leg failed: perhaps a session is dead without a sign. */
  #suspect(link: Link): void {
    const now = performance.now();
    if (now - this.#suspectedAt < SUSPECT_EVERY_MS) return;
    this.#suspectedAt = now;
    void this.#isb?.check();
    this.#ists.check(link);
  }

  #control(peer: string, frame: Buffer): void {
    const link = this.#links.get(peer);
    if (link) {
      link.receiveControl(frame, "isb");
      return;
    }
    // A peer of an earlier life of this process: it must learn that the keys are gone.
    try {
      const { kind, generation } = decodeControlFrame(frame);
      if (kind !== "sealed") return;
      this.#isb?.binary(addressedFrame(Buffer.from(peer, "base64url"), encodeUnknownGeneration(generation)));
    } catch {
      this.#metrics.linkEvent("control-forged");
    }
  }

  #streams(): number {
    return this.#links.all.reduce((sum, link) => sum + link.opens.size, 0);
  }

  #tidyUp(): void {
    const now = performance.now();
    this.#services.tidy(Math.floor(Date.now() / 1000));
    this.#links.tidy(now);
    this.#ists.tidy(this.#links.all, now);
    // The answer to a change of the key was lost, but the ISB knows the device by the next one.
    if (this.#isb?.lastError?.code === "device-revoked" && this.#key.isChanging) {
      this.#inTurn(() => this.#adoptKey()).catch((err: unknown) =>
        this.#logger.error({ err }, "the key is not changed"),
      );
    }
  }

  // What else the user asks

  async list(query: { user?: string; service?: string; away: boolean }) {
    return this.#directory.list(this.#requireIsb(), query);
  }

  get directory(): Directory {
    return this.#directory;
  }

  get pins(): Pins {
    return this.#pins;
  }

  /** A key that was refused is accepted: what failed for it is tried again at once. */
  trust(service: string, forget: boolean): { peer: string; fingerprint?: string } {
    const ref = parseServiceRef(service);
    const peer = serviceRefText(ref);
    if (forget) {
      this.#pins.forget(peer);
      return { peer };
    }
    const fingerprint = this.#pins.trust(peer, ref.fingerprint);
    this.#find(peer)?.trust(fingerprint);
    return { peer, fingerprint };
  }

  async invite(lifetimeS: number): Promise<string> {
    return (await this.#requireIsb().request("invite", { lifetimeS })).invite;
  }

  async devices() {
    return (await this.#requireIsb().request("devices", {})).devices;
  }

  async revoke(fingerprint: string): Promise<void> {
    await this.#requireIsb().request("revoke", { fingerprint });
  }

  /** A new device key, signed by the old one. Links are made anew under it. @throws IsthmusError of the ISB */
  rotate(): Promise<string> {
    return this.#inTurn(async () => {
      const isb = this.#requireIsb();
      const { identity } = this.#key;
      const next = this.#key.prepare();
      const transcript = rotationTranscript(identity.publicKey, next.publicKey);
      try {
        await isb.request("rotate", {
          key: next.publicKey,
          oldSignature: identity.sign(transcript),
          newSignature: next.sign(transcript),
        });
      } catch (error) {
        // Where the answer is missing, the ISB may have taken the key all the same.
        if (!CODES[toIsthmusError(error).code].retry) this.#key.abandon();
        throw error;
      }
      await this.#adoptKey();
      return fingerprintOf(next.publicKey);
    });
  }

  async #adoptKey(): Promise<void> {
    if (!this.#key.isChanging) return;
    this.#key.adopt();
    await this.#disconnect();
    await this.#ists.stop();
    this.#links.close();
    this.#services.revokeAll();
    this.#links = this.#createLinks();
    this.#ists = this.#createIsts();
    for (const subscription of this.#subscriptions.values()) subscription.renegotiate();
    const { isb } = this.#file.state;
    if (isb) this.#connect(isb);
  }

  status(): StatusReport {
    const { version, direct } = this.#options;
    const { isb } = this.#file.state;
    const reachability = this.#reachability;
    return {
      version,
      started: this.#started.toISOString(),
      pid: process.pid,
      device: {
        fingerprint: fingerprintOf(this.#key.identity.publicKey),
        ...(this.#user === undefined ? {} : { user: this.#user }),
        ...(isb?.device === undefined ? {} : { name: isb.device }),
      },
      cipher: implementation,
      ...(this.#isb ? { isb: sessionReportOf(this.#isb) } : {}),
      ists: this.#ists.report(),
      reachable: {
        state: !direct.enabled ? "off" : reachability === undefined ? "unknown" : reachability.reachable ? "yes" : "no",
        ...(reachability?.address === undefined ? {} : { address: reachability.address }),
        ...(reachability?.code === undefined ? {} : { message: reachability.code }),
      },
      services: this.#services.all.map(({ name }) => this.#provider.report(name)),
      subscriptions: [...this.#subscriptions.values()].map((subscription) => this.#subscriptionReport(subscription)),
      links: this.#links.all.map((link) => this.#linkReport(link)),
    };
  }

  #subscriptionReport(subscription: Subscription): SubscriptionReport {
    return { ...subscription.report(), ...reportPaths(subscription.link) };
  }

  #linkReport(link: Link): StatusReport["links"][number] {
    const { ist, direct, newest } = link;
    return {
      fingerprint: fingerprintOf(link.peer),
      ...(newest ? { generation: newest.generation.id } : {}),
      control: direct?.isUp
        ? "direct"
        : ist?.joined && ist.peerJoined
          ? "ist"
          : this.#isb?.state === "up"
            ? "isb"
            : "none",
      ...(ist ? { allocation: ist.offer.allocation, ist: ist.offer.ist.name } : {}),
      cells: ist?.cells ?? [],
      udp: reportPaths(link).udp,
      connections: link.opens.size,
    };
  }
}

/** ADDR:PORT, where port 0 leaves the choice to the host. */
function parseListen(text: string): HostPort {
  const zero = /^(.+):0$/.exec(text);
  const parsed = zero ? { host: zero[1]!.replace(/^\[|\]$/g, ""), port: 0 } : parseHostPort(text);
  if (!parsed) throw new IsthmusError("bad-request", `'${text}' is not ADDR:PORT`);
  return parsed;
}

/** @throws IsthmusError why the ISB refused, `timeout` when no answer came */
async function whenLoggedIn(session: IsbSession): Promise<void> {
  const refused = new AbortController();
  const look = setInterval(() => {
    const error = session.lastError;
    if (error && LOGIN_REFUSED.has(error.code)) refused.abort(error);
  }, LOGIN_CHECK_MS);
  const { signal } = refused;
  try {
    await session.whenUp(AbortSignal.any([signal, AbortSignal.timeout(LOGIN_WAIT_MS)]));
  } catch {
    throw session.lastError ?? new IsthmusError("timeout", `no answer from ${session.origin}`);
  } finally {
    clearInterval(look);
  }
}

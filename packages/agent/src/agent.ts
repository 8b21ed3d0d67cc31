import { randomBytes } from "node:crypto";
import { createStaticKey, type IstMeeting, LegPort, type Link, type OpenRequest, respond } from "@isthmus/link";
import { implementation, implementationDetail } from "@isthmus/native";
import {
  type AllocationOffer,
  addressedFrame,
  decodeControlFrame,
  decodeInvite,
  encodeUnknownGeneration,
  fingerprintOf,
  type HostPort,
  IsthmusError,
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
import { createIdentity, type Identity, type Logger, type Metrics } from "@isthmus/service";
import { verifyGrant } from "@isthmus/session";
import { AgentMetrics } from "./agent-metrics.ts";
import { Directory } from "./directory.ts";
import {
  type AskBody,
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
import { Services } from "./services.ts";
import { StateFile } from "./state.ts";
import { Subscription, useDirect } from "./subscription.ts";

const TIDY_MS = 10_000;
/** How long a first login may take before the user is told why it does not work. */
const LOGIN_WAIT_MS = 15_000;
/** A link asks the ISB for an allocation at most this often. */
const ALLOCATE_EVERY_MS = 500;
/** Sessions are asked for a sign of life at most this often. */
const SUSPECT_EVERY_MS = 1000;

export interface AgentOptions {
  version: string;
  /** Where the state is kept. */
  folder: string;
  identity: Identity;
  /** Keeps a new key, once the ISB has taken it. */
  saveIdentity: (identity: Identity) => void;
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
  #identity: Identity;
  /** New at each start: peers learn by it that keys and connections are gone. */
  readonly #boot = randomBytes(8).toString("hex");
  readonly #staticKey = createStaticKey();
  readonly #started = new Date();
  readonly #file: StateFile;
  readonly #pins: Pins;
  readonly #services: Services;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #metrics: AgentMetrics;
  readonly #directory: Directory;
  #links: Links;
  #ists: IstConnections;
  #isb: IsbSession | undefined;
  #registration: { invite: string; device?: string } | undefined;
  readonly #legPort: LegPort;
  #legPortNumber: number | undefined;
  #reachability: ReachabilityBody | undefined;
  readonly #allocating = new WeakMap<Link, number>();
  #suspectedAt = 0;
  #tidy: NodeJS.Timeout | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#logger = options.logger;
    this.#identity = options.identity;
    this.#file = new StateFile(options.folder);
    this.#pins = new Pins(this.#file, options.logger);
    this.#services = new Services(this.#file);
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
    const known = this.#file.state.isb;
    if (known && known.fingerprint !== invite.isb) {
      throw new IsthmusError("bad-request", `this device is logged in at ${known.origins[0]}: 'isthmus logout' first`);
    }
    await this.#disconnect();
    const origins = invite.addresses.map((address) => `${invite.secure ? "wss" : "ws"}://${address}`);
    const target = {
      origins,
      fingerprint: invite.isb,
      ...(invite.certificate ? { certificate: invite.certificate } : {}),
    };
    this.#registration = { invite: invite.token, ...(device === undefined ? {} : { device }) };
    const session = this.#connect(target);
    try {
      await session.whenUp(AbortSignal.timeout(LOGIN_WAIT_MS));
    } catch {
      const error = session.lastError ?? new IsthmusError("timeout", `no answer from ${origins.join(", ")}`);
      await this.#disconnect();
      if (known) this.#connect(known);
      throw error;
    } finally {
      this.#registration = undefined;
    }
    const { user, device: name } = session.login!.reply;
    this.#file.update((state) => {
      state.isb = {
        ...target,
        ...(user === undefined ? {} : { user }),
        ...(name === undefined ? {} : { device: name }),
      };
    });
    return {
      isb: session.origin,
      ...(user === undefined ? {} : { user }),
      ...(name === undefined ? {} : { device: name }),
    };
  }

  /** Forgets the ISB, and with it subscriptions; services stay, for the next login. */
  async logout(): Promise<void> {
    for (const id of [...this.#subscriptions.keys()]) await this.unsubscribe(id);
    await this.#disconnect();
    this.#links.close();
    this.#file.update((state) => {
      delete state.isb;
    });
  }

  async #disconnect(): Promise<void> {
    const session = this.#isb;
    this.#isb = undefined;
    await session?.stop();
    this.#services.offline();
  }

  #connect(target: IsbTarget): IsbSession {
    const session = connectToIsb(
      {
        identity: this.#identity,
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
        down: () => this.#services.offline(),
        ask: (body) => this.#ask(body),
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

  /** @throws IsthmusError `name-taken` and others of the ISB; the service is not kept then */
  async provide(service: LocalService, options: { take: boolean }): Promise<ServiceReport> {
    const before = this.#services.get(service.name);
    if (options.take) await this.#requireIsb().request("take", { name: service.name });
    this.#services.put(service);
    await this.#redeclare();
    const outcome = this.#services.outcome(service.name);
    if (typeof outcome === "object") {
      if (before) this.#services.put(before);
      else this.#services.remove(service.name);
      throw new IsthmusError(outcome.code, outcome.message || undefined);
    }
    this.#applyLists();
    return this.#serviceReport(service.name);
  }

  async withdraw(name: string): Promise<void> {
    this.#services.remove(name);
    for (const subscription of this.#services.subscriptionsOf({ service: name })) this.#endProvided(subscription);
    await this.#redeclare();
  }

  /** Who is not on a list any more is cut off at once. */
  #applyLists(): void {
    for (const subscription of this.#services.subscriptionsOf({})) {
      const grant = this.#services.grantOf(subscription)!;
      try {
        this.#services.check(grant.svc, grant.sbr, this.#user, false);
      } catch {
        this.#endProvided(subscription);
      }
    }
  }

  #endProvided(subscription: string): void {
    const grant = this.#services.grantOf(subscription);
    this.#services.revoke(subscription);
    if (grant) this.#links.get(grant.sbr.key)?.endSubscription(subscription);
  }

  /** Somebody negotiates for a service. @throws IsthmusError the refusal */
  #ask(body: AskBody): { handshake: string } {
    const { service, subscriber, plain, negotiation } = body;
    try {
      this.#services.check(service, subscriber, this.#user, plain);
      const subject = serviceRefText({ service, user: this.#user ?? "" });
      const context = { identity: this.#identity, staticKey: this.#staticKey, requestId: negotiation, subject };
      const answer = respond(context, Buffer.from(body.handshake, "base64url"), Date.now());
      if (answer.peer !== subscriber.key) {
        throw new IsthmusError("handshake-failed", "the broker named another subscriber than asked");
      }
      this.#links.addGeneration(this.#links.obtain(answer.peer), answer.generation);
      this.#logger.info({ service, subscriber: subscriber.user, key: fingerprintOf(subscriber.key) }, "accepted");
      return { handshake: answer.message.toString("base64url") };
    } catch (error) {
      const { code } = toIsthmusError(error);
      this.#metrics.refusedAsks.inc({ reason: code });
      this.#logger.info({ service, subscriber: subscriber.user, code }, "refused");
      throw error;
    }
  }

  /** The ISB told who may use a service and where to meet; or, for an own subscription, another place. */
  #told(body: ToldBody): void {
    try {
      const own = this.#subscriptions.get(body.subscription);
      if (own) {
        own.told(body);
        return;
      }
      const issuer = this.#isb?.login?.serverKey;
      if (issuer === undefined) return;
      const grant = verifyGrant(body.grant, issuer, Math.floor(Date.now() / 1000));
      const isOurs =
        grant.sub === body.subscription &&
        grant.prv.key === this.#identity.publicKey &&
        grant.sbr.key === body.peer.key;
      if (!isOurs) throw new IsthmusError("grant-invalid", "the grant is for something else");
      this.#services.grant(body.subscription, grant);
      const link = this.#links.obtain(grant.sbr.key);
      if (body.allocation) this.#useAllocation(link, body.allocation);
      if (body.direct) useDirect(link, body.direct, "provider");
    } catch (error) {
      this.#logger.warn({ err: error, subscription: body.subscription }, "what the ISB told cannot be used");
    }
  }

  #ended(id: string, error: IsthmusError): void {
    const own = this.#subscriptions.get(id);
    if (own) own.ended(error);
    else this.#endProvided(id);
  }

  // Subscribing

  /** @throws IsthmusError what stands against it; nothing is kept then */
  async subscribe(request: SubscriptionRequest): Promise<SubscriptionReport> {
    const ref = parseServiceRef(request.service);
    const known = this.#find(serviceRefText(ref));
    if (known) throw new IsthmusError("bad-request", `already subscribed to ${known.ref}: 'isthmus unsubscribe' first`);
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
        return agent.#identity;
      },
      staticKey: this.#staticKey,
      pins: this.#pins,
      isb: () => this.#isb,
      obtainLink: (peer: string) => this.#links.obtain(peer),
      addGeneration: (link: Link, generation: Parameters<Link["addGeneration"]>[0]) =>
        this.#links.addGeneration(link, generation),
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
      () => this.#identity,
      this.#staticKey,
      {
        sendViaIsb: (frame) => this.#isb?.binary(frame) ?? false,
        sendViaIst: (link, frame) => this.#ists.send(link, frame),
        admit: (link, request) => this.#admit(link, request),
        keysLost: (link) => this.#subscriptionsOf(link).forEach((subscription) => void subscription.renegotiate()),
        needAllocation: (link) => void this.#allocate(link, []),
        suspect: (link) => this.#suspect(link),
        streamEnded: (_link, _subscription, code, side) => this.#metrics.streamEnded(side, code),
        count: (event) => this.#metrics.linkEvent(event),
        isNeeded: (link) =>
          this.#subscriptionsOf(link).length > 0 || this.#services.subscriptionsOf({ peer: link.peer }).length > 0,
      },
      this.#logger,
    );
  }

  #createIsts(): IstConnections {
    return new IstConnections({
      identity: () => this.#identity,
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
    if (this.#streams() >= this.#options.mostStreams) throw new IsthmusError("too-many-opens");
    const own = this.#subscriptions.get(request.subscription);
    if (own) {
      if (own.link !== link) throw new IsthmusError("no-such-subscription");
      return own.admit(request);
    }
    return this.#services.admit(link.peer, request, this.#user, Math.floor(Date.now() / 1000));
  }

  #useAllocation(link: Link, offer: AllocationOffer): IstMeeting {
    const meeting = link.setAllocation(offer);
    this.#ists.use(link, meeting);
    return meeting;
  }

  /** Asks the ISB for a place to meet, because there is none or its IST is away. */
  async #allocate(link: Link, avoid: string[]): Promise<void> {
    const now = Date.now();
    const subscription = this.#subscriptionsOf(link)[0]?.id ?? this.#services.subscriptionsOf({ peer: link.peer })[0];
    if (subscription === undefined || this.#isb?.state !== "up") return;
    if (now - (this.#allocating.get(link) ?? 0) < ALLOCATE_EVERY_MS) return;
    this.#allocating.set(link, now);
    try {
      const { allocation } = await this.#isb.request("allocate", { subscription, avoid });
      this.#useAllocation(link, allocation);
    } catch (error) {
      this.#logger.info({ code: toIsthmusError(error).code }, "no other IST yet");
    }
  }

  /** A leg failed: perhaps a session is dead without a sign. */
  #suspect(link: Link): void {
    const now = Date.now();
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
    this.#links.tidy(Date.now());
    this.#ists.tidy(this.#links.all);
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
    this.#find(peer)?.retrySoon();
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

  /** A new device key, signed by the old one. Links are made anew under it. */
  async rotate(): Promise<string> {
    const isb = this.#requireIsb();
    const next = createIdentity();
    const transcript = rotationTranscript(this.#identity.publicKey, next.publicKey);
    await isb.request("rotate", {
      key: next.publicKey,
      oldSignature: this.#identity.sign(transcript),
      newSignature: next.sign(transcript),
    });
    this.#options.saveIdentity(next);
    const target = this.#file.state.isb!;
    await this.#disconnect();
    await this.#ists.stop();
    this.#links.close();
    this.#identity = next;
    this.#links = this.#createLinks();
    this.#ists = this.#createIsts();
    for (const subscription of this.#subscriptions.values()) subscription.renegotiate();
    this.#connect(target);
    return fingerprintOf(next.publicKey);
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
        fingerprint: fingerprintOf(this.#identity.publicKey),
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
      services: this.#services.all.map(({ name }) => this.#serviceReport(name)),
      subscriptions: [...this.#subscriptions.values()].map((subscription) => this.#subscriptionReport(subscription)),
      links: this.#links.all.map((link) => this.#linkReport(link)),
    };
  }

  #serviceReport(name: string): ServiceReport {
    const connections = this.#services.subscriptionsOf({ service: name }).reduce((sum, subscription) => {
      const grant = this.#services.grantOf(subscription)!;
      return sum + (this.#links.get(grant.sbr.key)?.countOf(subscription) ?? 0);
    }, 0);
    return this.#services.report(name, connections, this.#isb?.state === "up");
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

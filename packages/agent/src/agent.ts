import { randomBytes } from "node:crypto";
import { createStaticKey, type IstMeeting, LegPort, type Link, type OpenRequest } from "@isthmus/link";
import { implementation, implementationDetail } from "@isthmus/native";
import {
  type AllocationOffer,
  addressedFrame,
  type Code,
  decodeControlFrame,
  encodeUnknownGeneration,
  fingerprintOf,
  type HostPort,
  IsthmusError,
  type LocalService,
  type ProbeReport,
  type ProbeRequest,
  parseServiceRef,
  type ServiceReport,
  type StatusReport,
  type SubscriptionReport,
  type SubscriptionRequest,
  serviceRefText,
} from "@isthmus/protocol";
import type { Logger, Metrics } from "@isthmus/service";
import { TokenBuckets } from "@isthmus/session";
import { Account } from "./account.ts";
import { AgentMetrics } from "./agent-metrics.ts";
import { Allocator } from "./allocator.ts";
import type { DeviceKey } from "./device-key.ts";
import { Directory } from "./directory.ts";
import type { DeclareBody, DeclareReply, IsbSession, ReachabilityBody, ToldBody } from "./isb-connection.ts";
import { IstConnections, sessionReportOf } from "./ist-connections.ts";
import { Links } from "./links.ts";
import { reportLink, reportPaths } from "./path-report.ts";
import { Pins } from "./pins.ts";
import { Provider } from "./provider.ts";
import { Services } from "./services.ts";
import { StateFile } from "./state.ts";
import type { Subscription } from "./subscription.ts";
import { Subscriptions } from "./subscriptions.ts";

const TIDY_MS = 10_000;
/** Sessions are asked for a sign of life at most this often. */
const SUSPECT_EVERY_MS = 1000;
/** Of the resets for one reason so many are logged; all are counted. */
const RESETS_LOGGED = { perSecond: 1, burst: 10 };

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
  readonly #account: Account;
  readonly #pins: Pins;
  readonly #services: Services;
  readonly #provider: Provider;
  readonly #subscriptions: Subscriptions;
  readonly #allocator: Allocator;
  readonly #resetsLogged = new TokenBuckets(RESETS_LOGGED);
  readonly #metrics: AgentMetrics;
  readonly #directory: Directory;
  #links: Links;
  #ists: IstConnections;
  readonly #legPort: LegPort;
  #legPortNumber: number | undefined;
  #reachability: ReachabilityBody | undefined;
  #suspectedAt = Number.NEGATIVE_INFINITY;
  #tidy: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#logger = options.logger;
    this.#key = options.key;
    const file = new StateFile(options.folder);
    this.#file = file;
    this.#account = this.#createAccount();
    this.#pins = new Pins(file, options.logger);
    this.#services = new Services(file);
    this.#provider = this.#createProvider();
    this.#subscriptions = this.#createSubscriptions();
    this.#allocator = this.#createAllocator();
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

  /** @throws Error `EADDRINUSE` and the like where the leg port cannot be had */
  async start(): Promise<void> {
    const { direct } = this.#options;
    if (direct.enabled) this.#legPortNumber = await this.#legPort.listen(direct.port);
    if (implementation !== "native") {
      this.#logger.warn({ why: implementationDetail }, "encryption runs in node:crypto, which is slower");
    }
    this.#tidy = setInterval(() => this.#tidyUp(), TIDY_MS);
    // Everything that is remembered is declared at the first login.
    const resumed = this.#subscriptions.resume();
    this.#account.start();
    await resumed;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#tidy);
    this.#subscriptions.close();
    this.#links.close();
    this.#legPort.close();
    await Promise.all([this.#account.stop(), this.#ists.stop()]);
    // What the ISB said until its session had ended may have made others.
    this.#links.close();
  }

  /** Why the daemon cannot do its job at the moment, if so. */
  get problem(): string | undefined {
    return this.#account.problem;
  }

  // The account

  get #isb(): IsbSession | undefined {
    return this.#account.session;
  }

  /** @throws IsthmusError `invite-invalid`, or why the ISB refused */
  login(invite: string, device?: string): Promise<{ user?: string; device?: string; isb: string }> {
    return this.#account.login(invite, device);
  }

  /** Forgets the ISB, and with it subscriptions and grants; services stay, for the next login. */
  logout(): Promise<void> {
    return this.#account.logout();
  }

  /** A new device key, signed by the old one. Links are made anew under it. @throws IsthmusError of the ISB */
  rotate(): Promise<string> {
    return this.#account.rotate();
  }

  #createAccount(): Account {
    const { insecure } = this.#options;
    const options = { file: this.#file, key: this.#key, boot: this.#boot, insecure, logger: this.#logger };
    return new Account(options, {
      events: {
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
      leaving: async () => {
        await this.#subscriptions.endAll();
        await this.#forgetPeers();
        this.#directory.clear();
      },
      keyChanged: async () => {
        await this.#forgetPeers();
        this.#links = this.#createLinks();
        this.#ists = this.#createIsts();
        for (const subscription of this.#subscriptions.all) subscription.renegotiate();
      },
    });
  }

  /** Whatever is between this device, as it was so far, and others has come to an end. */
  async #forgetPeers(): Promise<void> {
    this.#links.close();
    this.#services.revokeAll();
    await this.#ists.stop();
  }

  #down(): void {
    this.#services.offline();
    this.#reachability = undefined;
  }

  #up(): void {
    this.#metrics.logins.inc();
    this.#directory.sessionUp();
    for (const subscription of this.#subscriptions.all) subscription.retrySoon();
    // Opens that wait for a place to meet may ask for one now.
    for (const link of this.#links.all) link.meetingReady();
  }

  #declaration(): DeclareBody {
    return {
      services: this.#services.specs(),
      subscriptions: this.#subscriptions.all.flatMap(({ held }) => (held ? [held] : [])),
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

  // Providing

  #createProvider(): Provider {
    return new Provider({
      identity: () => this.#key.identity,
      staticKey: this.#staticKey,
      services: this.#services,
      links: () => this.#links,
      isb: () => this.#isb,
      user: () => this.#account.user,
      requireIsb: () => this.#account.require(),
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

  #createSubscriptions(): Subscriptions {
    return new Subscriptions(this.#file, {
      identity: () => this.#key.identity,
      staticKey: this.#staticKey,
      pins: this.#pins,
      isb: () => this.#isb,
      obtainLink: (peer) => this.#links.obtain(peer),
      useAllocation: (link, offer) => this.#useAllocation(link, offer),
      logger: this.#logger,
    });
  }

  /**
   * @param signal gives up what is not there yet
   * @throws IsthmusError what stands against it; nothing is kept then
   */
  async subscribe(request: SubscriptionRequest, signal?: AbortSignal): Promise<SubscriptionReport> {
    return this.#subscriptionReport(await this.#subscriptions.subscribe(request, signal));
  }

  /**
   * A subscription that shall stand whenever it can, as a configuration file asks for it. Negotiates in the background;
   * one that is there already stays as it is.
   * @throws IsthmusError `bad-request` when the request itself is wrong
   */
  keepSubscribed(request: SubscriptionRequest): Promise<void> {
    return this.#subscriptions.keep(request);
  }

  /** @param which SERVICE@USER or the subscription's id. @throws IsthmusError `no-such-subscription` */
  unsubscribe(which: string): Promise<void> {
    return this.#subscriptions.end(which);
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
          for (const subscription of this.#subscriptions.ofLink(link)) subscription.keysLost();
        },
        needAllocation: (link) => this.#allocator.ask(link, []),
        suspect: (link) => this.#suspect(link),
        streamEnded: (link, subscription, code, side) => this.#streamEnded(link, subscription, code, side),
        flowRefused: (_link, subscription, code) => this.#subscriptions.get(subscription)?.refused(code),
        count: (event) => this.#metrics.linkEvent(event),
        isNeeded: (link) =>
          this.#subscriptions.ofLink(link).length > 0 ||
          this.#services.subscriptionsOf(link.peer).length > 0 ||
          // What was opened under a grant that is over goes on until it ends.
          link.size > 0,
      },
      this.#logger,
    );
  }

  #streamEnded(link: Link, id: string, code: Code, side: "opened" | "answered"): void {
    this.#metrics.streamEnded(side, code);
    const own = this.#subscriptions.get(id);
    if (side === "opened") own?.refused(code);
    if (code === "finished" || this.#resetsLogged.take(code, performance.now()) > 0) return;
    const peer = fingerprintOf(link.peer);
    this.#logger.info(
      { subscription: own?.ref ?? id, peer, code },
      `a connection was reset: ${new IsthmusError(code).message}`,
    );
  }

  #createIsts(): IstConnections {
    return new IstConnections({
      identity: () => this.#key.identity,
      boot: this.#boot,
      allowInsecure: this.#options.insecure,
      replace: (link, ist) => this.#allocator.ask(link, [ist]),
      logger: this.#logger,
    });
  }

  #createAllocator(): Allocator {
    return new Allocator({
      isb: () => this.#isb,
      subscriptionOf: (link) =>
        this.#subscriptions.ofLink(link).find(({ held }) => held)?.id ?? this.#services.subscriptionsOf(link.peer)[0],
      use: (link, offer) => this.#useAllocation(link, offer),
      logger: this.#logger,
    });
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
    if (!this.#isStopped) this.#ists.use(link, meeting);
    return meeting;
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
    this.#account.tidy();
  }

  // What else the user asks

  async list(query: { user?: string; service?: string; away: boolean }) {
    return this.#directory.list(this.#account.require(), query);
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
    const subscription = this.#subscriptions.find(peer);
    if (forget) {
      this.#pins.forget(peer);
      subscription?.retrySoon();
      return { peer };
    }
    const fingerprint = this.#pins.trust(peer, ref.fingerprint);
    subscription?.trust(fingerprint);
    return { peer, fingerprint };
  }

  async invite(lifetimeS: number): Promise<string> {
    return (await this.#account.require().request("invite", { lifetimeS })).invite;
  }

  async devices() {
    return (await this.#account.require().request("devices", {})).devices;
  }

  revoke(fingerprint: string): Promise<void> {
    return this.#account.revoke(fingerprint);
  }

  /** A port of this host, as the ISB sees it from outside. @throws IsthmusError of the ISB */
  async probe(request: ProbeRequest): Promise<ProbeReport> {
    return this.#account.require().request("probe", request);
  }

  status(): StatusReport {
    const { version, direct } = this.#options;
    const { isb } = this.#file.state;
    const reachability = this.#reachability;
    const { user } = this.#account;
    return {
      version,
      started: this.#started.toISOString(),
      pid: process.pid,
      device: {
        fingerprint: fingerprintOf(this.#key.identity.publicKey),
        ...(user === undefined ? {} : { user }),
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
      subscriptions: this.#subscriptions.all.map((subscription) => this.#subscriptionReport(subscription)),
      links: this.#links.all.map((link) => reportLink(link, this.#isb?.state === "up")),
    };
  }

  #subscriptionReport(subscription: Subscription): SubscriptionReport {
    return { ...subscription.report(), ...reportPaths(subscription.link) };
  }
}

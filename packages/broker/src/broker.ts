import type { Server } from "node:http";
import { type Code, fingerprintOf, IsthmusError, isbDaemon, isbIst } from "@isthmus/protocol";
import type { Certificate, Identity, Logger, Metrics } from "@isthmus/service";
import { type LoginAttempt, type LoginVerdict, type Rate, SessionGate, SessionServer } from "@isthmus/session";
import type { Store } from "@isthmus/store";
import { ControlFrames } from "./daemon/control-frames.ts";
import { DaemonContext, type DaemonProtocol, type DaemonSession } from "./daemon/daemon-session.ts";
import { Declarations } from "./daemon/declarations.ts";
import { DeviceKeys } from "./daemon/device-keys.ts";
import { daemonHandlers } from "./daemon/handlers.ts";
import { PortProbes } from "./daemon/port-probes.ts";
import { Presence } from "./daemon/presence.ts";
import { Reachability } from "./daemon/reachability.ts";
import { Directory } from "./directory/directory.ts";
import { includes, type Listing } from "./directory/listing.ts";
import { Upkeep } from "./directory/upkeep.ts";
import { Watchers } from "./directory/watchers.ts";
import { InviteTexts } from "./invite-texts.ts";
import { IstRegistry, type IstSession } from "./ist/registry.ts";
import { createSessionListener, listen } from "./listener.ts";
import { Pairs } from "./meeting/pairs.ts";
import type { Subscription } from "./meeting/subscription.ts";
import { nameOf, Subscriptions } from "./meeting/subscriptions.ts";
import { BrokerMetrics } from "./metrics.ts";
import { Negotiator } from "./negotiation/negotiator.ts";
import { Operations } from "./operations.ts";
import { OwnOrigins } from "./origins.ts";
import { CountedStore } from "./profiles/counted-store.ts";
import { Invites } from "./profiles/invites.ts";
import { type ProfileListener, Profiles } from "./profiles/profiles.ts";
import { Registration } from "./profiles/registration.ts";
import { type BrokerSettings, limitsOf, rateOf } from "./settings.ts";

const SWEEP_MS = 1000;
const EXPIRE_EVERY_MS = 60_000;
const SWEEP_INVITES_EVERY_MS = 3_600_000;
const UNLIMITED: Rate = { perSecond: 1e9, burst: 1e9 };

/** Closes after which a device is not expected back in a moment: it said goodbye, or was sent away. */
const FOR_GOOD: ReadonlySet<Code> = new Set<Code>([
  "shutting-down",
  "device-revoked",
  "user-disabled",
  "unknown-device",
  "replaced",
]);

export interface BrokerOptions {
  identity: Identity;
  /** Opened, and closed, by the caller. */
  store: Store;
  settings: BrokerSettings;
  /** Where sessions are taken; port 0 lets the system choose. */
  host: string;
  port: number;
  /** For `wss`; without one sessions are taken as `ws`, on loopback or behind a proxy. */
  certificate?: Certificate | undefined;
  /** Origins that reach this ISB too, beside those of the settings, and stand in no invite. */
  local?: readonly string[];
  /** A proxy in front ends TLS: clients dial `wss`, and source addresses are the proxy's. */
  isBehindProxy: boolean;
  /** Fingerprint of the certificate that clients are to pin; none where the system's CAs vouch for it. */
  pin?: string | undefined;
  metrics: Metrics;
  logger: Logger;
}

/** The ISB's body: one node, from its listening port to its store. */
export class Broker {
  readonly #options: BrokerOptions;
  readonly #metrics: BrokerMetrics;
  readonly #profiles: Profiles;
  readonly #invites: Invites;
  readonly #registration: Registration;
  readonly #directory: Directory;
  readonly #upkeep: Upkeep;
  readonly #watchers: Watchers;
  readonly #presence: Presence;
  readonly #ists: IstRegistry;
  readonly #pairs: Pairs;
  readonly #subscriptions: Subscriptions;
  readonly #negotiator: Negotiator;
  readonly #declarations: Declarations;
  readonly #reachability: Reachability;
  readonly #portProbes: PortProbes;
  readonly #daemons: SessionServer<DaemonProtocol, DaemonContext>;
  readonly #istSessions: SessionServer<typeof isbIst, undefined>;
  readonly #listener: Server;
  #origins: OwnOrigins;
  #gate: SessionGate | undefined;
  #timers: NodeJS.Timeout[] = [];

  /** What an operator may do and see. */
  readonly operations: Operations;

  constructor(options: BrokerOptions) {
    this.#options = options;
    const { identity, settings, logger } = options;
    const { rates } = settings;
    const now = (): number => performance.now();
    const daemons = (key: string): DaemonSession | undefined => this.#daemons.get(key);
    this.#metrics = this.#createMetrics();
    const store = new CountedStore(options.store, (use, outcome) => this.#metrics.store.inc({ use, outcome }));

    this.#profiles = new Profiles({ store, listener: this.#profileListener(), logger });
    this.#invites = new Invites({ store, logger });
    this.#registration = new Registration({
      store,
      profiles: this.#profiles,
      invites: this.#invites,
      devicesPerUser: settings.devices_per_user,
      logger,
    });
    this.#directory = new Directory((id, after, before) => {
      this.#watchers.changed(id, before);
      // Who comes and goes matters to watchers alone.
      if (after?.spec !== before?.spec || after?.device !== before?.device) this.#listingChanged(id, after, before);
    });
    this.#watchers = new Watchers(this.#directory, (outcome) => this.#metrics.pushes.inc({ outcome }));
    this.#presence = new Presence({
      profiles: this.#profiles,
      directory: this.#directory,
      graceMs: settings.grace_seconds * 1000,
      left: (key) => this.#negotiator.providerIsGone(this.#profiles.servicesOfDevice(key)),
    });
    this.#upkeep = new Upkeep({
      profiles: this.#profiles,
      directory: this.#directory,
      isPresent: (key) => this.#presence.isPresent(key),
    });
    this.#ists = new IstRegistry({
      lost: (pair, ist, allocation) => this.#pairs.lost(pair, ist, allocation),
      logger,
    });
    this.#pairs = new Pairs({ ists: this.#ists, limits: limitsOf(settings.allocation), now });
    this.#subscriptions = new Subscriptions({
      identity,
      profiles: this.#profiles,
      pairs: this.#pairs,
      daemons,
      now,
      onEnd: (subscription, code) => {
        this.#metrics.subscriptionsEnded.inc({ code });
        if (subscription.negotiation !== undefined) this.#negotiator.forgetAnswer(subscription.negotiation);
        logger.info({ subscription: subscription.id, service: nameOf(subscription), code }, "a subscription ended");
      },
    });
    this.#negotiator = new Negotiator({
      profiles: this.#profiles,
      directory: this.#directory,
      daemons,
      pairs: this.#pairs,
      subscriptions: this.#subscriptions,
      isBlinking: (key) => this.#isBlinking(key),
      now,
      onEnd: (outcome, durationMs) => {
        this.#metrics.negotiations.inc({ outcome });
        this.#metrics.negotiationSeconds.observe(durationMs / 1000);
      },
      logger,
    });
    this.#declarations = new Declarations({
      identity,
      profiles: this.#profiles,
      directory: this.#directory,
      upkeep: this.#upkeep,
      subscriptions: this.#subscriptions,
      changes: rateOf(rates.service_changes),
      logger,
    });
    this.#reachability = new Reachability({
      isOff: options.isBehindProxy,
      perDevice: rateOf(rates.probes_per_device),
      perAddress: rateOf(rates.probes_per_address),
      count: (outcome) => this.#metrics.probes.inc({ outcome }),
    });
    this.#portProbes = new PortProbes({
      isOff: options.isBehindProxy,
      perDevice: rateOf(rates.port_probes_per_device),
      perUser: rateOf(rates.port_probes_per_user),
      perAddress: rateOf(rates.port_probes_per_address),
      count: (outcome) => this.#metrics.portProbes.inc({ outcome }),
    });
    const secure = options.certificate !== undefined || options.isBehindProxy;
    this.#origins = this.#createOrigins(options.port);
    const inviteTexts = new InviteTexts({
      invites: this.#invites,
      key: identity.publicKey,
      secure,
      certificate: options.pin,
      addresses: () => this.#origins.addresses(),
    });
    const deviceKeys = new DeviceKeys({ store, profiles: this.#profiles, logger });

    this.#daemons = new SessionServer<DaemonProtocol, DaemonContext>({
      protocol: isbDaemon,
      clientRole: "daemon",
      authorize: (attempt) => this.#authorizeDaemon(attempt),
      handlers: daemonHandlers({
        profiles: this.#profiles,
        directory: this.#directory,
        watchers: this.#watchers,
        presence: this.#presence,
        declarations: this.#declarations,
        negotiator: this.#negotiator,
        subscriptions: this.#subscriptions,
        pairs: this.#pairs,
        reachability: this.#reachability,
        portProbes: this.#portProbes,
        deviceKeys,
        controlFrames: new ControlFrames({
          pairs: this.#pairs,
          daemons,
          rate: rateOf(rates.control_frames),
          count: (outcome) => this.#metrics.controlFrames.inc({ outcome }),
        }),
        inviteTexts,
        daemons,
        rates,
      }),
      hooks: {
        observe: (_session, event, type) => this.#observe("daemon", event, type),
        drained: (session) => this.#watchers.drained(session),
        internalError: (session, type, err) =>
          logger.error({ err, type, user: session.context.user }, "request failed"),
      },
      remember: ["unsubscribe", "allocate", "invite", "rotate", "take", "revoke"],
      requestRate: rateOf(rates.requests),
      onOpen: () => this.#metrics.logins.inc({ role: "daemon" }),
      onClose: (session, code) => this.#daemonClosed(session, code),
      heartbeatMs: Math.round(settings.heartbeat_seconds * 1000),
    });
    this.#istSessions = new SessionServer<typeof isbIst, undefined>({
      protocol: isbIst,
      clientRole: "ist",
      authorize: (attempt) => this.#authorizeIst(attempt),
      handlers: this.#ists.handlers,
      hooks: {
        observe: (_session, event, type) => this.#observe("ist", event, type),
        internalError: (session, type, err) => logger.error({ err, type, ist: session.key }, "request failed"),
      },
      onOpen: (session) => {
        this.#metrics.logins.inc({ role: "ist" });
        this.#ists.opened(session);
      },
      onClose: (session, code) => this.#istClosed(session, code),
      heartbeatMs: Math.round(settings.heartbeat_seconds * 1000),
    });
    this.#listener = createSessionListener(options.certificate);
    this.operations = new Operations({
      store,
      profiles: this.#profiles,
      invites: this.#invites,
      inviteTexts,
      deviceKeys,
      directory: this.#directory,
      presence: this.#presence,
      subscriptions: this.#subscriptions,
      ists: this.#ists,
      daemons: this.#daemons,
    });
  }

  /**
   * Reads the profiles and takes sessions from then on.
   * @returns the listening port
   * @throws IsthmusError `store-unavailable`, or the system's error when the port cannot be had
   */
  async start(): Promise<number> {
    const { identity, settings, logger, host } = this.#options;
    try {
      await this.#profiles.open();
      this.#gate = new SessionGate({
        role: "isb",
        identity,
        isOwnOrigin: (origin) => this.#origins.includes(origin),
        // All connections come from the proxy, which alone knows whose they are.
        connectRate: this.#options.isBehindProxy ? UNLIMITED : rateOf(settings.rates.connects),
        maxSessions: settings.sessions,
        servers: [this.#daemons, this.#istSessions],
        logger,
        onRefused: (code) => this.#metrics.loginsRefused.inc({ code }),
      });
      this.#listener.on("upgrade", this.#gate.handleUpgrade);
      const port = await listen(this.#listener, host, this.#options.port);
      this.#origins = this.#createOrigins(port);
      this.#timers = [
        setInterval(() => this.#sweep(), SWEEP_MS),
        setInterval(() => this.#subscriptions.expire(Date.now() / 1000), EXPIRE_EVERY_MS),
        setInterval(() => void this.#invites.sweep(), SWEEP_INVITES_EVERY_MS),
      ];
      logger.info({ host, port, key: fingerprintOf(identity.publicKey) }, "the ISB takes sessions");
      return port;
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Says goodbye to everybody. The store is not closed. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
    this.#negotiator.stop();
    this.#reachability.stop();
    this.#portProbes.stop();
    const closed = new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    await this.#gate?.close();
    this.#watchers.stop();
    this.#listener.closeAllConnections();
    await closed;
    this.#profiles.close();
  }

  /** Why this node cannot do all of its work, or nothing when it can. */
  notReady(): string | undefined {
    const { ok, detail } = this.#options.store.health();
    return ok ? undefined : `the store is not available: ${detail}`;
  }

  /** HOST:PORT under which clients reach this node, as invites say. */
  addresses(): string[] {
    return this.#origins.addresses();
  }

  #createOrigins(port: number): OwnOrigins {
    const { settings, local = [], host, certificate, isBehindProxy } = this.#options;
    const secure = certificate !== undefined || isBehindProxy;
    return new OwnOrigins({ given: settings.public, local, secure, host, port });
  }

  #createMetrics(): BrokerMetrics {
    return new BrokerMetrics(this.#options.metrics, {
      daemonSessions: () => this.#daemons.size,
      istSessions: () => this.#istSessions.size,
      directoryServices: () => this.#directory.size,
      directoryPresent: () => this.#directory.presentCount,
      watchers: () => this.#watchers.size,
      subscriptions: () => this.#subscriptions.size,
      allocations: () => this.#ists.allocations,
      negotiationsRunning: () => this.#negotiator.running,
    });
  }

  #observe(role: "daemon" | "ist", event: string, type: string): void {
    const counter = event === "refused" || event === "dropped" ? this.#metrics.messagesRefused : this.#metrics.messages;
    counter.inc({ role, type });
  }

  /** @throws IsthmusError `unknown-device`, `device-revoked`, `user-disabled`, `invite-invalid`, ... */
  async #authorizeDaemon(attempt: LoginAttempt): Promise<LoginVerdict<DaemonContext>> {
    const { key, invite } = attempt;
    let device = this.#profiles.device(key) ?? (await this.#profiles.fetch("device", key));
    if (!device && invite !== undefined) device = await this.#registration.device(attempt, invite);
    if (!device) throw new IsthmusError("unknown-device");
    if (device.replacedBy !== undefined) throw new IsthmusError("device-revoked", "the device has changed its key");
    if (device.revoked !== undefined) throw new IsthmusError("device-revoked");
    const user = this.#profiles.user(device.user) ?? (await this.#profiles.fetch("user", device.user));
    if (!user) throw new IsthmusError("unknown-device", "the user of this device was deleted");
    if (user.disabled) throw new IsthmusError("user-disabled");
    return { user: user.name, device: device.name, context: new DaemonContext(user.name) };
  }

  async #authorizeIst(attempt: LoginAttempt): Promise<LoginVerdict<undefined>> {
    const { key, invite } = attempt;
    let ist = this.#profiles.ist(key) ?? (await this.#profiles.fetch("ist", key));
    if (!ist && invite !== undefined) ist = await this.#registration.ist(attempt, invite);
    if (!ist) throw new IsthmusError("unknown-device", "no IST with this key was invited");
    if (ist.disabled) throw new IsthmusError("user-disabled", "the operator has disabled this IST");
    return { device: ist.name, context: undefined };
  }

  #daemonClosed(session: DaemonSession, code: Code): void {
    this.#metrics.sessionsClosed.inc({ role: "daemon", code });
    this.#watchers.remove(session);
    this.#negotiator.closed(session);
    // A session that took its place speaks for the device now.
    if (this.#daemons.get(session.key)) return;
    if (FOR_GOOD.has(code)) this.#presence.left(session.key);
    else this.#presence.broke(session.key, performance.now());
  }

  #istClosed(session: IstSession, code: Code): void {
    this.#metrics.sessionsClosed.inc({ role: "ist", code });
    this.#ists.closed(session, performance.now());
  }

  /** Whether a device without a session that has declared itself may be back in a moment. */
  #isBlinking(key: string): boolean {
    const session = this.#daemons.get(key);
    return !session?.context.declared && (session !== undefined || this.#presence.isPresent(key));
  }

  #sweep(): void {
    const now = performance.now();
    this.#presence.sweep(now);
    this.#negotiator.sweep(now);
    this.#ists.sweep(now);
    void this.#declarations.sweep();
  }

  #profileListener(): ProfileListener {
    return {
      userChanged: (name, after) => {
        const code = after ? "user-disabled" : "unknown-device";
        if (!after || after.disabled) for (const key of this.#profiles.devicesOf(name)) this.#sendAway(key, code);
        this.#upkeep.user(name);
      },
      deviceChanged: (key, after) => {
        if (!after) this.#sendAway(key, "unknown-device");
        else if (after.replacedBy !== undefined) this.#followNewKey(key);
        else if (after.revoked !== undefined) this.#sendAway(key, "device-revoked");
        this.#upkeep.device(key);
      },
      serviceChanged: (id) => this.#upkeep.service(id),
      istChanged: (key, after) => {
        if (!after || after.disabled) this.#istSessions.get(key)?.close("user-disabled");
      },
    };
  }

  /** A device may act no more: its session, its subscriptions and what it negotiates end at once. */
  #sendAway(key: string, code: Code): void {
    this.#daemons.get(key)?.close(code);
    this.#presence.left(key);
    this.#negotiator.cancel(key, code);
    for (const subscription of [...this.#subscriptions.ofSubscriber(key), ...this.#subscriptions.ofProvider(key)]) {
      this.#subscriptions.end(subscription, code, "both");
    }
  }

  /**
   * A device goes on under another key. It logs in with that one; who uses its services is told to negotiate anew as
   * soon as it is back.
   */
  #followNewKey(key: string): void {
    const session = this.#daemons.get(key);
    // Behind the answer to the request that did it.
    setImmediate(() => session?.close("replaced"));
    this.#presence.left(key);
    this.#negotiator.cancel(key, "replaced");
    for (const subscription of [...this.#subscriptions.ofSubscriber(key)]) {
      this.#subscriptions.end(subscription, "replaced", "provider");
    }
  }

  /** What may be used, or by whom, or of which device, is other than before. */
  #listingChanged(id: string, after: Listing | undefined, before: Listing | undefined): void {
    this.#negotiator.serviceChanged(id);
    if (!before || (after && this.#isSameDevice(before.device, after.device))) {
      if (after) this.#endUnlessAllowed(after);
      return;
    }
    for (const subscription of this.#subscriptionsTo(before)) {
      this.#subscriptions.end(subscription, after ? "replaced" : "unknown-service", "both");
    }
  }

  #endUnlessAllowed(listing: Listing): void {
    for (const subscription of this.#subscriptionsTo(listing)) {
      if (!includes(listing, subscription.subscriber.user)) this.#subscriptions.end(subscription, "revoked", "both");
    }
  }

  #subscriptionsTo({ device, spec }: Listing): Subscription[] {
    return [...this.#subscriptions.ofProvider(device)].filter(({ service }) => service === spec.name);
  }

  /** Whether two keys are of one device, which changed from one to the other. */
  #isSameDevice(before: string, after: string): boolean {
    return before === after || this.#profiles.device(after)?.rotations.at(-1)?.from === before;
  }
}

import type { Socket } from "node:net";
import { Initiator, type IstMeeting, type Link, type OpenRequest, type X25519KeyPair } from "@isthmus/link";
import {
  type AllocationOffer,
  type Channel,
  CODES,
  type Code,
  fingerprintOf,
  type GrantPayload,
  type HostPort,
  IsthmusError,
  parseHostPort,
  type SubscriptionReport,
  serviceRefText,
  toIsthmusError,
} from "@isthmus/protocol";
import type { Identity, Logger } from "@isthmus/service";
import { Backoff, newRequestId, verifyGrant } from "@isthmus/session";
import { ChannelListeners } from "./channel-listeners.ts";
import { GrantRenewal } from "./grant-renewal.ts";
import { HeldConnections } from "./held-connections.ts";
import type { IsbSession } from "./isb-connection.ts";
import type { Pins } from "./pins.ts";
import type { StoredSubscription } from "./state.ts";

/** In the background an absent provider is waited for at the ISB, so that its return is noticed at once. */
const BACKGROUND_WAIT_MS = 300_000;
/** Beyond the wait: what a negotiation itself may take. */
const NEGOTIATION_MS = 20_000;
/** New connections wait so long for a negotiation under way, then the keys that there are are tried. */
const PATIENCE_MS = 3000;
/** A provider that refuses what it granted leads to a new negotiation at most this often. */
const RIGHT_LOST_EVERY_MS = 5000;

const RETRY = { firstMs: 500, mostMs: 10_000, longAfterMs: 120_000, longMs: 60_000 };

/** What a provider says that does not know of the subscription, or not any more. */
const RIGHT_LOST: ReadonlySet<Code> = new Set([
  "no-such-subscription",
  "no-such-service",
  "not-allowed",
  "grant-expired",
  "revoked",
]);

/** What a subscription needs of the daemon around it. */
export interface SubscriptionWorld {
  identity(): Identity;
  staticKey: X25519KeyPair;
  pins: Pins;
  isb(): IsbSession | undefined;
  obtainLink(peer: string): Link;
  useAllocation(link: Link, offer: AllocationOffer): IstMeeting;
  /** The subscription's listeners or state changed: what is remembered must be written. */
  changed(subscription: Subscription): void;
  logger: Logger;
}

type SubscriptionState = "negotiating" | "waiting" | "active" | "failed";

/** What the ISB told: who the peer is, what may be used, and where to meet. */
interface Told {
  peer: { user: string; key: string };
  grant: string;
  direct?: { dialler: "subscriber" | "provider"; addresses: string[] } | undefined;
  allocation?: AllocationOffer | undefined;
}

/**
 * One remote service as it is used here: its listeners, and the standing right to use it. Once it was set up it heals by
 * itself: it negotiates again when the provider's process is another one, and renews its grant at half of its life.
 */
export class Subscription {
  readonly id: string;
  readonly service: string;
  readonly user: string;
  readonly plain: boolean;
  readonly accept: Readonly<Record<string, string>>;
  readonly #world: SubscriptionWorld;
  readonly #logger: Logger;
  readonly #backoff = new Backoff(RETRY);
  readonly #listeners: ChannelListeners;
  readonly #held = new HeldConnections();
  readonly #renewal = new GrantRenewal(() => void this.#renew());
  /** The key that the user insists on. */
  #fingerprint: string | undefined;
  #state: SubscriptionState = "negotiating";
  #error: IsthmusError | undefined;
  #grantText: string | undefined;
  #grant: GrantPayload | undefined;
  /** Channels that the provider opens. */
  #callbacks: readonly Channel[] = [];
  #link: Link | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #isNegotiating = false;
  /** What the negotiation under way is about to give is out of date already. */
  #isStale = false;
  #negotiatedAt = Number.NEGATIVE_INFINITY;
  /** New connections wait for the negotiation under way. */
  #isPatient = true;
  #isClosed = false;

  /** @param stored what was remembered of it, or what the user asks for */
  constructor(world: SubscriptionWorld, stored: StoredSubscription, mainListen?: HostPort) {
    this.#world = world;
    this.id = stored.id;
    this.service = stored.service;
    this.user = stored.user;
    this.plain = stored.plain;
    this.accept = stored.accept;
    this.#fingerprint = stored.fingerprint;
    this.#logger = world.logger.child({ subscription: this.ref });
    this.#listeners = new ChannelListeners(
      {
        connection: (socket, channel) => this.#open(socket, channel),
        client: (channel, deliver, forget) => this.#openFlow(channel, deliver, forget),
      },
      stored.listen,
      mainListen,
    );
  }

  get ref(): string {
    return serviceRefText(this);
  }

  get state(): SubscriptionState {
    return this.#state;
  }

  get link(): Link | undefined {
    return this.#link;
  }

  /** What is remembered over a restart. */
  get stored(): StoredSubscription {
    const { id, service, user, plain } = this;
    return {
      id,
      service,
      user,
      plain,
      accept: { ...this.accept },
      listen: this.#listeners.addresses,
      ...(this.#fingerprint === undefined ? {} : { fingerprint: this.#fingerprint }),
    };
  }

  /**
   * What the ISB is told of it at a login: the right to use it, as long as there is one. That it negotiates at the moment
   * is no reason to withdraw it: connections may live on.
   */
  get held(): { subscription: string; grant: string; allocation?: { ist: string; id: string } } | undefined {
    const isOurs = this.#grant?.sbr.key === this.#world.identity().publicKey;
    if (this.#grantText === undefined || !isOurs || this.#isExpired) return undefined;
    const offer = this.#link?.ist?.offer;
    return {
      subscription: this.id,
      grant: this.#grantText,
      ...(offer ? { allocation: { ist: offer.ist.key, id: offer.allocation } } : {}),
    };
  }

  get #isExpired(): boolean {
    return this.#grant !== undefined && this.#grant.exp * 1000 <= Date.now();
  }

  /**
   * The first negotiation, as the user asks for it.
   * @throws IsthmusError what stands against it; the caller drops the subscription then
   */
  async subscribe(waitMs: number): Promise<void> {
    await this.#negotiate(waitMs);
  }

  /** After a restart: listens where it did, and negotiates in the background until it works. */
  async resume(): Promise<void> {
    try {
      await this.#listeners.listen(
        this.#listeners.addresses.map(({ channel, proto }) => ({ id: channel, proto, opener: "subscriber" })),
      );
    } catch (error) {
      this.#error = toIsthmusError(error);
      this.#logger.warn({ err: error }, "a remembered port cannot be used");
    }
    this.retrySoon();
  }

  /** Something changed (the session is up, the user trusts a key): negotiates at once if it is needed. */
  retrySoon(): void {
    if (this.#state !== "active") void this.#background();
  }

  /** The keys or grants that the provider had are gone. */
  renegotiate(): void {
    if (this.#isNegotiating) this.#isStale = true;
    else void this.#background();
  }

  /** The provider says that it does not know the keys in use. Those of a negotiation under way are newer. */
  keysLost(): void {
    if (!this.#isNegotiating) void this.#background();
  }

  /** The provider refused to open something. */
  refused(code: Code): void {
    const isOld = performance.now() - this.#negotiatedAt >= RIGHT_LOST_EVERY_MS;
    if (RIGHT_LOST.has(code) && this.#state === "active" && isOld) this.renegotiate();
  }

  /** The ISB ended it. */
  ended(error: IsthmusError): void {
    this.#renewal.stop();
    this.#grantText = undefined;
    this.#grant = undefined;
    this.#link?.endSubscription(this.id, error.code);
    if (this.#isNegotiating) {
      // Either the former right has ended, or the one whose grant is arriving this moment: only asking again tells.
      this.#isStale = true;
      return;
    }
    this.#link = undefined;
    this.#fail(error);
    this.#retryLater();
  }

  /** The ISB told another place to meet, or a renewed grant. @throws IsthmusError `grant-invalid`, `grant-expired` */
  told(told: Told): void {
    if (!this.#isClosed) this.#use(told);
  }

  /** The user accepted a key: where one was insisted on, it is this one from now on. */
  trust(fingerprint: string): void {
    if (this.#fingerprint !== undefined) this.#fingerprint = fingerprint;
    this.#world.changed(this);
    this.retrySoon();
  }

  /** The last word on an open that the provider's daemon asks for. @throws IsthmusError the refusal */
  admit(request: OpenRequest): HostPort {
    const { channel, opener, proto, plain } = request;
    if (!this.#isUsable) throw new IsthmusError("grant-expired");
    const isOffered = this.#callbacks.some(({ id, proto: offered }) => id === channel && offered === proto);
    const target = Object.hasOwn(this.accept, channel) ? this.accept[channel] : undefined;
    if (opener !== "provider" || !isOffered || target === undefined) throw new IsthmusError("unknown-channel");
    if (plain && !this.plain) throw new IsthmusError("plain-refused");
    return parseHostPort(target)!;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retryTimer);
    this.#renewal.stop();
    this.#listeners.close();
    this.#held.reset();
    this.#link?.endSubscription(this.id, "cancelled");
  }

  report(): Omit<SubscriptionReport, "tcp" | "udp"> {
    const { id, service, user, plain } = this;
    return {
      id,
      service,
      user,
      plain,
      state: this.#state,
      ...(this.#error ? { code: this.#error.code, message: this.#error.message } : {}),
      ...(this.#link ? { fingerprint: fingerprintOf(this.#link.peer) } : {}),
      listen: this.#listeners.addresses,
      connections: this.#link?.countOf(this.id) ?? 0,
      splices: this.#link?.opens.splices(this.id) ?? { passive: 0, pure: 0 },
      ...(this.#grant ? { grantExpires: new Date(this.#grant.exp * 1000).toISOString() } : {}),
    };
  }

  // Negotiation

  async #background(): Promise<void> {
    if (this.#isNegotiating || this.#isClosed) return;
    clearTimeout(this.#retryTimer);
    try {
      await this.#negotiate(BACKGROUND_WAIT_MS);
    } catch {
      this.#retryLater();
    }
  }

  async #negotiate(waitMs: number): Promise<void> {
    this.#isNegotiating = true;
    this.#isStale = false;
    this.#state = "negotiating";
    this.#isPatient = true;
    const patience = setTimeout(() => this.#stopWaiting(), PATIENCE_MS);
    try {
      const told = await this.#ask(waitMs);
      this.#callbacks = told.channels.filter(({ opener }) => opener === "provider");
      await this.#listeners.listen(told.channels.filter(({ opener }) => opener === "subscriber"));
      this.#use(told);
      if (!this.#grant) throw new IsthmusError("cancelled");
      this.#state = "active";
      this.#error = undefined;
      this.#negotiatedAt = performance.now();
      this.#backoff.reset();
      this.#logger.info({ peer: fingerprintOf(told.peer.key), path: told.direct ? "direct" : "ist" }, "subscribed");
      this.#world.changed(this);
      this.#stopWaiting();
    } catch (error) {
      if (!this.#isClosed) this.#fail(toIsthmusError(error));
      throw error;
    } finally {
      clearTimeout(patience);
      this.#isNegotiating = false;
      if (this.#isStale) void this.#background();
    }
  }

  /** @throws IsthmusError why there is no right to use the service; `cancelled` when it was closed meanwhile */
  async #ask(waitMs: number) {
    const { staticKey, pins } = this.#world;
    const identity = this.#world.identity();
    const isb = this.#world.isb();
    if (isb?.state !== "up") throw new IsthmusError("not-logged-in");
    const requestId = newRequestId();
    const initiator = new Initiator({ identity, staticKey, requestId, subject: this.ref });
    const reply = await isb.request(
      "subscribe",
      {
        subscription: this.id,
        service: this.service,
        user: this.user,
        handshake: initiator.message.toString("base64url"),
        plain: this.plain,
        waitMs,
      },
      { id: requestId, timeoutMs: waitMs + NEGOTIATION_MS },
    );
    if (this.#isClosed) {
      // Nobody may have told the ISB that it is over, or before it had begun there.
      void isb.request("unsubscribe", { subscription: this.id }).catch(() => undefined);
      throw new IsthmusError("cancelled");
    }
    const { peer, generation } = initiator.finish(Buffer.from(reply.handshake, "base64url"), performance.now());
    if (peer !== reply.peer.key)
      throw new IsthmusError("handshake-failed", "the broker named another provider than answered");
    // Nothing else of what was told is used before the key is the right one.
    pins.check(this.ref, peer, reply.peer.rotations, this.#fingerprint);
    // Once the key that was insisted on has led to this one, it is of no more use to whoever else may hold it.
    if (this.#fingerprint !== undefined) this.#fingerprint = fingerprintOf(peer);
    const link = this.#world.obtainLink(peer);
    link.addGeneration(generation);
    if (this.#link !== link) {
      this.#link?.endSubscription(this.id, "peer-key-changed");
      this.#link = link;
    }
    return reply;
  }

  /** What was told for a provider's former key is of no use any more; the negotiation brings the present one. */
  #use(told: Told): void {
    const issuer = this.#world.isb()?.login?.serverKey;
    const link = this.#link;
    if (!link || link.peer !== told.peer.key || issuer === undefined) return;
    const grant = verifyGrant(told.grant, issuer, Math.floor(Date.now() / 1000));
    const isOurs =
      grant.sub === this.id &&
      grant.svc === this.service &&
      grant.prv.user === this.user &&
      grant.prv.key === link.peer &&
      grant.sbr.key === this.#world.identity().publicKey;
    if (!isOurs) throw new IsthmusError("grant-invalid", "the grant is for something else");
    this.#grantText = told.grant;
    this.#grant = grant;
    if (told.allocation) this.#world.useAllocation(link, told.allocation);
    if (told.direct) useDirect(link, told.direct, "subscriber");
    this.#renewal.schedule(grant);
  }

  async #renew(): Promise<void> {
    const grant = this.#grant;
    const link = this.#link;
    if (!grant || !link) return;
    try {
      const isb = this.#world.isb();
      if (isb?.state !== "up") throw new IsthmusError("not-logged-in");
      const renewed = await isb.request("renew", { subscription: this.id });
      if (!this.#isClosed && this.#link === link) this.#use({ peer: { user: this.user, key: link.peer }, ...renewed });
    } catch (error) {
      if (this.#isClosed || this.#grant !== grant) return;
      const { code } = toIsthmusError(error);
      this.#logger.warn({ code }, "the grant could not be renewed yet");
      if (this.#isExpired || !CODES[code].retry) this.renegotiate();
      else this.#renewal.retry(grant);
    }
  }

  #fail(error: IsthmusError): void {
    this.#error = error;
    this.#state = CODES[error.code].retry ? "waiting" : "failed";
    this.#logger.warn({ code: error.code }, `not subscribed: ${error.message}`);
    this.#stopWaiting();
  }

  #retryLater(): void {
    if (this.#isClosed || this.#isNegotiating) return;
    clearTimeout(this.#retryTimer);
    // Also where it was refused: who provides may be registered, or allow it, a moment later.
    const waitMs = this.#backoff.next(performance.now());
    this.#retryTimer = setTimeout(() => void this.#background(), waitMs);
  }

  // What comes to its listeners

  /**
   * There are keys and a grant: nobody else is needed for a connection, as long as the grant lasts. So a negotiation that
   * fails, or takes long, changes nothing for those that can do without it.
   */
  get #isUsable(): boolean {
    return this.#grant !== undefined && !this.#isExpired && this.#link?.newest !== undefined;
  }

  #stopWaiting(): void {
    this.#isPatient = false;
    if (this.#isUsable) this.#held.release((socket, channel) => this.#open(socket, channel));
  }

  #open(socket: Socket, channel: string): void {
    if (this.#isClosed) socket.resetAndDestroy();
    else if (this.#isPatient || !this.#isUsable) this.#held.hold(socket, channel);
    else this.#link!.openStream(socket, { subscription: this.id, channel, opener: "subscriber", plain: this.plain });
  }

  #openFlow(channel: string, deliver: (payload: Buffer) => void, forget: () => void) {
    const meaning = { subscription: this.id, channel, opener: "subscriber" } as const;
    const opened = this.#isUsable ? this.#link!.openFlow(meaning, { deliver, close: forget }) : undefined;
    if (!opened) return undefined;
    const { session, flow } = opened;
    return {
      send: (payload: Buffer) => session.send(flow, payload),
      close: () => session.closeFlow(flow, { tellPeer: true }),
    };
  }
}

/** A direct row of the table: this side dials, or waits to be dialled. */
export function useDirect(
  link: Link,
  direct: { dialler: "subscriber" | "provider"; addresses: string[] },
  self: "subscriber" | "provider",
): void {
  const isDialler = direct.dialler === self;
  link.setDirect(isDialler, isDialler ? direct.addresses.map((address) => parseHostPort(address)!) : []);
}

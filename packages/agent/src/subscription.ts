import type { Socket } from "node:net";
import { Initiator, type IstMeeting, type Link, type OpenRequest, type X25519KeyPair } from "@isthmus/link";
import {
  type AllocationOffer,
  type Channel,
  CODES,
  fingerprintOf,
  formatHostPort,
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
import type { IsbSession } from "./isb-connection.ts";
import { LocalListener } from "./local-listener.ts";
import type { Pins } from "./pins.ts";
import type { StoredSubscription } from "./state.ts";

/** Connections that come while there are no keys wait this long, as long as an open may take. */
const HOLD_MS = 10_000;
const MOST_HELD = 256;
/** In the background an absent provider is waited for at the ISB, so that its return is noticed at once. */
const BACKGROUND_WAIT_MS = 300_000;
/** Beyond the wait: what a negotiation itself may take. */
const NEGOTIATION_MS = 20_000;
const RENEW_RETRY_MS = 60_000;

const RETRY = { firstMs: 500, mostMs: 10_000, longAfterMs: 120_000, longMs: 60_000 };

/** What a subscription needs of the daemon around it. */
export interface SubscriptionWorld {
  identity: Identity;
  staticKey: X25519KeyPair;
  pins: Pins;
  isb(): IsbSession | undefined;
  obtainLink(peer: string): Link;
  addGeneration(link: Link, generation: Parameters<Link["addGeneration"]>[0]): void;
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
  readonly #fingerprint: string | undefined;
  readonly #world: SubscriptionWorld;
  readonly #logger: Logger;
  readonly #backoff = new Backoff(RETRY);
  readonly #listeners = new Map<string, { channel: Channel; listener: LocalListener }>();
  readonly #held = new Map<Socket, { channel: string; timer: NodeJS.Timeout }>();
  #wanted: StoredSubscription["listen"];
  #mainListen: HostPort | undefined;
  #state: SubscriptionState = "negotiating";
  #error: IsthmusError | undefined;
  #grantText: string | undefined;
  #grant: GrantPayload | undefined;
  #link: Link | undefined;
  #timer: NodeJS.Timeout | undefined;
  #negotiating = false;
  #closed = false;

  /** @param stored what was remembered of it, or what the user asks for */
  constructor(world: SubscriptionWorld, stored: StoredSubscription, mainListen?: HostPort) {
    this.#world = world;
    this.id = stored.id;
    this.service = stored.service;
    this.user = stored.user;
    this.plain = stored.plain;
    this.accept = stored.accept;
    this.#fingerprint = stored.fingerprint;
    this.#wanted = stored.listen;
    this.#mainListen = mainListen;
    this.#logger = world.logger.child({ subscription: this.ref });
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
    const listen = [...this.#listeners.values()].map(({ channel, listener }) => ({
      channel: channel.id,
      proto: channel.proto,
      address: formatHostPort(listener.address),
    }));
    return {
      id,
      service,
      user,
      plain,
      accept: { ...this.accept },
      listen: listen.length > 0 ? listen : this.#wanted,
      ...(this.#fingerprint === undefined ? {} : { fingerprint: this.#fingerprint }),
    };
  }

  /** What the ISB is told of it at a login, if it is live. */
  get held(): { subscription: string; grant: string; allocation?: { ist: string; id: string } } | undefined {
    if (this.#state !== "active" || this.#grantText === undefined) return undefined;
    const offer = this.#link?.ist?.offer;
    return {
      subscription: this.id,
      grant: this.#grantText,
      ...(offer ? { allocation: { ist: offer.ist.key, id: offer.allocation } } : {}),
    };
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
      await this.#listen(this.#wanted.map(({ channel, proto }) => ({ id: channel, proto, opener: "subscriber" })));
    } catch (error) {
      this.#error = toIsthmusError(error);
      this.#logger.warn({ err: error }, "a remembered port cannot be used");
    }
    this.retrySoon();
  }

  /** Something changed (the session is up, the provider is another process): negotiates at once if it is needed. */
  retrySoon(): void {
    if (this.#state !== "active") void this.#background();
  }

  /** The keys or grants that the provider had are gone. */
  renegotiate(): void {
    if (this.#closed || this.#negotiating) return;
    this.#state = "negotiating";
    void this.#background();
  }

  /** The ISB ended it. */
  ended(error: IsthmusError): void {
    this.#fail(error);
    this.#link?.endSubscription(this.id);
    this.#retryLater();
  }

  /** The ISB told another place to meet, or a renewed grant. */
  told(told: Told): void {
    this.#use(told);
  }

  /** The last word on an open that the provider's daemon asks for. @throws IsthmusError the refusal */
  admit(request: OpenRequest): HostPort {
    const target = this.accept[request.channel];
    if (request.opener !== "provider" || target === undefined) throw new IsthmusError("unknown-channel");
    if (request.plain && !this.plain) throw new IsthmusError("plain-refused");
    return parseHostPort(target)!;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const { listener } of this.#listeners.values()) listener.close();
    this.#listeners.clear();
    this.#releaseHeld((socket) => socket.resetAndDestroy());
    this.#link?.endSubscription(this.id);
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
      listen: this.stored.listen,
      connections: this.#link?.countOf(this.id) ?? 0,
      ...(this.#grant ? { grantExpires: new Date(this.#grant.exp * 1000).toISOString() } : {}),
    };
  }

  // Negotiation

  async #background(): Promise<void> {
    if (this.#negotiating || this.#closed) return;
    clearTimeout(this.#timer);
    try {
      await this.#negotiate(BACKGROUND_WAIT_MS);
    } catch {
      this.#retryLater();
    }
  }

  async #negotiate(waitMs: number): Promise<void> {
    this.#negotiating = true;
    this.#state = "negotiating";
    try {
      const told = await this.#ask(waitMs);
      if (this.#closed) return;
      await this.#listen(told.channels.filter(({ opener }) => opener === "subscriber"));
      this.#use(told);
      this.#state = "active";
      this.#error = undefined;
      this.#backoff.reset();
      this.#logger.info({ peer: fingerprintOf(told.peer.key), path: told.direct ? "direct" : "ist" }, "subscribed");
      this.#world.changed(this);
      this.#releaseHeld((socket, channel) => this.#open(socket, channel));
    } catch (error) {
      this.#fail(toIsthmusError(error));
      throw error;
    } finally {
      this.#negotiating = false;
    }
  }

  async #ask(waitMs: number) {
    const { identity, staticKey, pins } = this.#world;
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
    const { peer, generation } = initiator.finish(Buffer.from(reply.handshake, "base64url"), Date.now());
    if (peer !== reply.peer.key)
      throw new IsthmusError("handshake-failed", "the broker named another provider than answered");
    // Nothing else of what was told is used before the key is the right one.
    pins.check(this.ref, peer, reply.peer.rotations, this.#fingerprint);
    const link = this.#world.obtainLink(peer);
    this.#world.addGeneration(link, generation);
    if (this.#link !== link) {
      this.#link?.endSubscription(this.id);
      this.#link = link;
    }
    return reply;
  }

  #use(told: Told): void {
    const isb = this.#world.isb();
    const issuer = isb?.login?.serverKey;
    const link = this.#link;
    if (!link || link.peer !== told.peer.key || issuer === undefined) return;
    const grant = verifyGrant(told.grant, issuer, Math.floor(Date.now() / 1000));
    const isOurs =
      grant.sub === this.id &&
      grant.svc === this.service &&
      grant.prv.user === this.user &&
      grant.prv.key === link.peer &&
      grant.sbr.key === this.#world.identity.publicKey;
    if (!isOurs) throw new IsthmusError("grant-invalid", "the grant is for something else");
    this.#grantText = told.grant;
    this.#grant = grant;
    if (told.allocation) this.#world.useAllocation(link, told.allocation);
    if (told.direct) useDirect(link, told.direct, "subscriber");
    this.#renewAtHalfLife(grant);
  }

  #renewAtHalfLife(grant: GrantPayload): void {
    clearTimeout(this.#timer);
    const at = ((grant.iat + grant.exp) / 2) * 1000;
    this.#timer = setTimeout(() => void this.#renew(), Math.max(1000, at - Date.now()));
  }

  async #renew(): Promise<void> {
    try {
      const isb = this.#world.isb();
      if (isb?.state !== "up") throw new IsthmusError("not-logged-in");
      const { grant } = await isb.request("renew", { subscription: this.id });
      this.#use({ peer: { user: this.user, key: this.#link!.peer }, grant });
    } catch (error) {
      if (this.#closed) return;
      this.#logger.warn({ code: toIsthmusError(error).code }, "the grant could not be renewed yet");
      this.#timer = setTimeout(() => void this.#renew(), RENEW_RETRY_MS);
    }
  }

  #fail(error: IsthmusError): void {
    this.#error = error;
    this.#state = CODES[error.code].retry ? "waiting" : "failed";
    this.#logger.warn({ code: error.code }, `not subscribed: ${error.message}`);
  }

  #retryLater(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    const waitMs = this.#backoff.next(Date.now(), this.#state === "failed");
    this.#timer = setTimeout(() => void this.#background(), waitMs);
  }

  // Listeners and what comes to them

  /** Opens what is not open yet: the first TCP and the first UDP channel share one port, further ones have their own. */
  async #listen(channels: Channel[]): Promise<void> {
    for (const [id, { listener }] of this.#listeners) {
      if (channels.some((channel) => channel.id === id)) continue;
      this.#listeners.delete(id);
      if (![...this.#listeners.values()].some((other) => other.listener === listener)) listener.close();
    }
    const missing = channels.filter(({ id }) => !this.#listeners.has(id));
    const tcp = missing.find(({ proto }) => proto === "tcp");
    const udp = missing.find(({ proto }) => proto === "udp");
    const isFirst = this.#listeners.size === 0;
    const groups =
      isFirst && tcp && udp
        ? [[tcp, udp], ...missing.filter((c) => c !== tcp && c !== udp).map((c) => [c])]
        : missing.map((c) => [c]);
    for (const [index, group] of groups.entries()) {
      const remembered = this.#wanted.find(({ channel }) => channel === group[0]!.id)?.address;
      const wanted = (remembered === undefined ? undefined : parseHostPort(remembered)) ??
        (isFirst && index === 0 ? this.#mainListen : { host: this.#mainListen?.host ?? "127.0.0.1", port: 0 }) ?? {
          host: "127.0.0.1",
          port: 0,
        };
      const listener = await LocalListener.open(
        wanted,
        { tcp: group.some(({ proto }) => proto === "tcp"), udp: group.some(({ proto }) => proto === "udp") },
        {
          connection: (socket) => this.#open(socket, group.find(({ proto }) => proto === "tcp")!.id),
          client: (deliver, forget) => this.#openFlow(group.find(({ proto }) => proto === "udp")!.id, deliver, forget),
        },
      );
      for (const channel of group) this.#listeners.set(channel.id, { channel, listener });
    }
  }

  #open(socket: Socket, channel: string): void {
    if (this.#state === "active" && this.#link?.newest) {
      this.#link.openStream(socket, { subscription: this.id, channel, opener: "subscriber", plain: this.plain });
    } else this.#hold(socket, channel);
  }

  /** A connection that comes while the subscription heals waits for it. */
  #hold(socket: Socket, channel: string): void {
    if (this.#held.size >= MOST_HELD || this.#closed) {
      socket.resetAndDestroy();
      return;
    }
    const timer = setTimeout(() => {
      this.#held.delete(socket);
      socket.resetAndDestroy();
    }, HOLD_MS);
    this.#held.set(socket, { channel, timer });
    socket.on("error", () => undefined);
    socket.once("close", () => {
      clearTimeout(timer);
      this.#held.delete(socket);
    });
  }

  #releaseHeld(take: (socket: Socket, channel: string) => void): void {
    for (const [socket, { channel, timer }] of [...this.#held]) {
      clearTimeout(timer);
      this.#held.delete(socket);
      take(socket, channel);
    }
  }

  #openFlow(channel: string, deliver: (payload: Buffer) => void, forget: () => void) {
    const meaning = { subscription: this.id, channel, opener: "subscriber" } as const;
    const opened = this.#state === "active" ? this.#link?.openFlow(meaning, { deliver, close: forget }) : undefined;
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

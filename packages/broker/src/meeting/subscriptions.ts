import {
  type Code,
  GRANT_LIFETIME_S,
  type GrantPayload,
  IsthmusError,
  LIMITS,
  serviceRefText,
} from "@isthmus/protocol";
import type { Identity } from "@isthmus/service";
import { signGrant } from "@isthmus/session";
import type { FindDaemon } from "../daemon/daemon-session.ts";
import { Groups } from "../groups.ts";
import { peerOf } from "../profiles/peer.ts";
import type { Profiles } from "../profiles/profiles.ts";
import type { Pairs } from "./pairs.ts";
import type { Subscription } from "./subscription.ts";

/** Which of the two daemons is told. */
export type Tell = "subscriber" | "provider" | "both";

/** What makes a subscription; the rest follows from it. */
export type NewSubscription = Pick<
  Subscription,
  "id" | "service" | "provider" | "subscriber" | "direct" | "providerBoot" | "negotiation" | "answeredOver"
> & { issuedS?: number; expiresS?: number };

/**
 * An event that was written to a session shortly before it broke may not have arrived: what was told in this time is
 * told again at the next login.
 */
const DOUBT_MS = 60_000;

/** The living subscriptions. In memory: at a login each daemon declares its own, with the grant that proves it. */
export class Subscriptions {
  readonly #identity: Identity;
  readonly #profiles: Profiles;
  readonly #pairs: Pairs;
  readonly #daemons: FindDaemon;
  readonly #now: () => number;
  readonly #onEnd: (subscription: Subscription, code: Code) => void;
  readonly #byId = new Map<string, Subscription>();
  readonly #bySubscriber = new Groups<Subscription>();
  readonly #byProvider = new Groups<Subscription>();

  constructor(options: {
    identity: Identity;
    profiles: Profiles;
    pairs: Pairs;
    daemons: FindDaemon;
    now: () => number;
    onEnd: (subscription: Subscription, code: Code) => void;
  }) {
    this.#identity = options.identity;
    this.#profiles = options.profiles;
    this.#pairs = options.pairs;
    this.#daemons = options.daemons;
    this.#now = options.now;
    this.#onEnd = options.onEnd;
  }

  get size(): number {
    return this.#byId.size;
  }

  get(id: string): Subscription | undefined {
    return this.#byId.get(id);
  }

  /** In no order. */
  all(): Iterable<Subscription> {
    return this.#byId.values();
  }

  ofSubscriber(key: string): ReadonlySet<Subscription> {
    return this.#bySubscriber.of(key);
  }

  ofProvider(key: string): ReadonlySet<Subscription> {
    return this.#byProvider.of(key);
  }

  /**
   * The subscription of this id that a daemon takes part in.
   * @throws IsthmusError `no-such-subscription`
   */
  of(key: string, id: string): Subscription {
    const subscription = this.#byId.get(id);
    if (subscription?.subscriber.key === key || subscription?.provider.key === key) return subscription;
    throw new IsthmusError("no-such-subscription");
  }

  /**
   * Whether a device may have a subscription of this id, beside those that it negotiates.
   * @throws IsthmusError `bad-request` where another device has it, `too-many`
   */
  checkRoom(subscriberKey: string, id: string, negotiated = 0): void {
    const known = this.#byId.get(id);
    if (known && known.subscriber.key !== subscriberKey) throw new IsthmusError("bad-request", "the id is in use");
    if (!known && this.ofSubscriber(subscriberKey).size + negotiated >= LIMITS.subscriptionsPerDevice) {
      throw new IsthmusError("too-many", `a device has at most ${LIMITS.subscriptionsPerDevice} subscriptions`);
    }
  }

  /** Adds a subscription, in the place of the one with the same id. */
  put(made: NewSubscription): Subscription {
    const issuedS = made.issuedS ?? Math.floor(Date.now() / 1000);
    const pair = this.#pairs.of(made.provider.key, made.subscriber.key);
    const expiresS = made.expiresS ?? issuedS + GRANT_LIFETIME_S;
    const provider = this.#daemons(made.provider.key);
    // Of one that was adopted nothing is known but that the two were in touch: with whom is there, as one must assume.
    const providerBoot = made.providerBoot ?? (provider?.context.declared ? provider.boot : undefined);
    const subscription: Subscription = {
      ...made,
      providerBoot,
      pair,
      issuedS,
      expiresS,
      toldAt: Number.NEGATIVE_INFINITY,
      owed: false,
    };
    this.#pairs.hold(pair, subscription);
    pair.subscriptions++;
    // The new one holds the pair before the old one lets go of it.
    const old = this.#byId.get(made.id);
    if (old) this.#end(old, "replaced", old.provider.key === made.provider.key ? undefined : "provider");
    this.#byId.set(made.id, subscription);
    this.#bySubscriber.add(made.subscriber.key, subscription);
    this.#byProvider.add(made.provider.key, subscription);
    return subscription;
  }

  end(subscription: Subscription, code: Code, tell: Tell): void {
    this.#end(subscription, code, tell);
  }

  /** A new grant, which the provider must know too: it has the last word on each open. */
  renew(subscription: Subscription): string {
    subscription.issuedS = Math.floor(Date.now() / 1000);
    subscription.expiresS = subscription.issuedS + GRANT_LIFETIME_S;
    const grant = this.grantOf(subscription);
    this.tell(subscription, "provider", grant);
    return grant;
  }

  grantOf(subscription: Subscription): string {
    const { id, service, provider, subscriber, issuedS, expiresS } = subscription;
    const payload: GrantPayload = {
      iss: this.#identity.publicKey,
      sub: id,
      svc: service,
      prv: provider,
      sbr: subscriber,
      iat: issuedS,
      exp: expiresS,
    };
    return signGrant(this.#identity, payload);
  }

  /** Where the two may meet, as one of them is told. */
  meetingOf({ pair, direct }: Subscription, key: string) {
    const allocation = pair.current && this.#pairs.offer(pair, key, pair.current);
    return { ...(direct ? { direct } : {}), ...(allocation ? { allocation } : {}) };
  }

  /** Sends `told` to one side. A provider that is away is told when it is back. */
  tell(subscription: Subscription, side: "subscriber" | "provider", grant = this.grantOf(subscription)): void {
    const { id, service, provider, subscriber } = subscription;
    const to = side === "provider" ? provider : subscriber;
    const other = side === "provider" ? subscriber : provider;
    const session = this.#daemons(to.key);
    if (side === "provider") {
      subscription.toldAt = this.#now();
      subscription.owed = session === undefined;
    }
    session?.event("told", {
      ...this.meetingOf(subscription, to.key),
      subscription: id,
      service,
      user: provider.user,
      peer: peerOf(this.#profiles, other.key),
      grant,
    });
  }

  /** A provider is back: it may have missed what it was told, or be another process that never heard of it. */
  providerIsBack(key: string, boot: string): void {
    for (const subscription of this.ofProvider(key)) {
      if (subscription.providerBoot !== undefined && subscription.providerBoot !== boot) {
        this.#renegotiate(subscription);
        continue;
      }
      subscription.providerBoot = boot;
      if (subscription.owed || this.#now() - subscription.toldAt < DOUBT_MS) this.tell(subscription, "provider");
    }
  }

  /** A provider is back under a new key: links under the old one are to be made anew. */
  providerHasNewKey(oldKey: string): void {
    for (const subscription of this.ofProvider(oldKey)) this.#renegotiate(subscription);
  }

  /** A subscriber is back: providers may have become other processes while it was away. */
  subscriberIsBack(key: string): void {
    for (const subscription of this.ofSubscriber(key)) {
      const provider = this.#daemons(subscription.provider.key);
      if (!provider?.context.declared || subscription.providerBoot === undefined) continue;
      if (subscription.providerBoot !== provider.boot) this.#renegotiate(subscription);
    }
  }

  /** Ends what was not renewed in time. @param nowS seconds since 1970 */
  expire(nowS: number): void {
    for (const subscription of this.#byId.values()) {
      if (subscription.expiresS <= nowS) this.#end(subscription, "grant-expired", "both");
    }
  }

  #renegotiate(subscription: Subscription): void {
    this.#daemons(subscription.subscriber.key)?.event("renegotiate", { subscription: subscription.id });
  }

  #end(subscription: Subscription, code: Code, tell: Tell | undefined): void {
    const { id, provider, subscriber, pair } = subscription;
    if (!this.#bySubscriber.of(subscriber.key).has(subscription)) return;
    if (this.#byId.get(id) === subscription) this.#byId.delete(id);
    this.#bySubscriber.remove(subscriber.key, subscription);
    this.#byProvider.remove(provider.key, subscription);
    pair.subscriptions--;
    this.#pairs.drop(pair, subscription, code);
    if (tell === "subscriber" || tell === "both") {
      this.#daemons(subscriber.key)?.event("ended", { subscription: id, code });
    }
    if (tell === "provider" || tell === "both") {
      this.#daemons(provider.key)?.event("ended", { subscription: id, code });
    }
    this.#onEnd(subscription, code);
  }
}

/** For logs: `service@user`. */
export function nameOf({ service, provider }: Subscription): string {
  return serviceRefText({ service, user: provider.user });
}

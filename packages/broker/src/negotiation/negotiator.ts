import { createHash } from "node:crypto";
import { type Code, IsthmusError, type isbDaemon, type ReplyInput, type RequestBody } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import type { DaemonSession, FindDaemon } from "../daemon/daemon-session.ts";
import type { Directory } from "../directory/directory.ts";
import { includes, type Listing } from "../directory/listing.ts";
import { Groups } from "../groups.ts";
import type { Pair, Pairs } from "../meeting/pairs.ts";
import type { Direct } from "../meeting/subscription.ts";
import type { Subscriptions } from "../meeting/subscriptions.ts";
import { peerOf } from "../profiles/peer.ts";
import type { Profiles } from "../profiles/profiles.ts";
import { serviceId } from "../profiles/records.ts";
import { Answers } from "./answers.ts";
import { relayedRefusal } from "./ask-error.ts";
import {
  begin,
  deadlineOf,
  type Negotiation,
  type NegotiationCommand,
  type NegotiationInput,
  type NegotiationTimes,
  phaseOf,
  step,
} from "./machine.ts";

/** Together below the 15 s after which a request that waits for nobody is given up by its sender. */
const TIMES: NegotiationTimes = { answerMs: 8000, subscriberMs: 5000 };
/** A provider whose session broke a moment ago is waited for so long even by those who do not want to wait. */
const BLINK_MS = 4000;
/** The longest delay of a timer of Node's is 2^31 - 1; nothing here waits longer than an hour. */
const LONGEST_TIMER_MS = 3_600_000;

type SubscribeBody = RequestBody<(typeof isbDaemon)["toServer"], "subscribe">;
type SubscribeReply = ReplyInput<(typeof isbDaemon)["toServer"], "subscribe">;

/** A negotiation that has not ended. */
interface Running {
  /** Subscriber's key and request id. */
  readonly key: string;
  readonly requestId: string;
  readonly body: SubscribeBody;
  /** Service id. */
  readonly service: string;
  readonly startedAt: number;
  state: Negotiation;
  /** The subscriber's newest session that asked. */
  session: DaemonSession;
  waiters: PromiseWithResolvers<SubscribeReply>[];
  timer: NodeJS.Timeout | undefined;
  timerAt: number;
  /** Known from the first ask on: */
  provider: { user: string; key: string; boot: string } | undefined;
  direct: Direct | undefined;
  pair: Pair | undefined;
  channels: Listing["spec"]["channels"];
  handshake: string | undefined;
  /** The words behind the code of a failure. */
  refusal: IsthmusError | undefined;
}

export interface NegotiatorOptions {
  profiles: Profiles;
  directory: Directory;
  daemons: FindDaemon;
  pairs: Pairs;
  subscriptions: Subscriptions;
  /** Whether a device is present although its session is down. */
  isBlinking: (key: string) => boolean;
  now: () => number;
  /** Counts an end: `told` or a code. */
  onEnd: (outcome: string, durationMs: number) => void;
  logger: Logger;
}

/** Carries negotiations out: what the pure machine decides is done here, and what comes of it goes back in. */
export class Negotiator {
  readonly #options: NegotiatorOptions;
  readonly #running = new Map<string, Running>();
  readonly #byService = new Groups<Running>();
  readonly #bySubscriber = new Groups<Running>();
  readonly #answers = new Answers<SubscribeReply | IsthmusError>();

  constructor(options: NegotiatorOptions) {
    this.#options = options;
  }

  get running(): number {
    return this.#running.size;
  }

  /** @throws IsthmusError why there is no subscription */
  subscribe(session: DaemonSession, body: SubscribeBody, requestId: string): Promise<SubscribeReply> | SubscribeReply {
    const key = `${session.key} ${requestId}`;
    const answer = this.#answers.get(key, this.#options.now());
    if (answer instanceof IsthmusError) throw answer;
    if (answer) return answer;
    const waiter = Promise.withResolvers<SubscribeReply>();
    const known = this.#running.get(key);
    if (known) {
      known.session = session;
      known.waiters.push(waiter);
      this.#step(known, { is: "subscriber-back" });
    } else this.#begin(key, session, body, requestId, waiter);
    return waiter.promise;
  }

  /** A device's session has closed. */
  closed(session: DaemonSession): void {
    for (const running of [...this.#bySubscriber.of(session.key)]) {
      if (running.session === session) this.#step(running, { is: "subscriber-lost" });
    }
  }

  /** The services of a device can be asked for. */
  providerIsPresent(services: Iterable<string>): void {
    for (const service of services) {
      for (const running of [...this.#byService.of(service)]) this.#lookForProvider(running);
    }
  }

  /** A device has logged out for good, or was away for too long. */
  providerIsGone(services: Iterable<string>): void {
    for (const service of services) {
      for (const running of [...this.#byService.of(service)]) this.#step(running, { is: "provider-gone" });
    }
  }

  /** A service is other than before: whoever may no longer use it negotiates in vain. */
  serviceChanged(id: string): void {
    for (const running of [...this.#byService.of(id)]) {
      try {
        const listing = this.#check(running.session, running.body);
        // Another device has taken the name over: the one that was asked is not meant any more.
        if (running.provider && running.provider.key !== listing.device) throw new IsthmusError("replaced");
      } catch (error) {
        running.refusal = error as IsthmusError;
        this.#step(running, { is: "withdrawn", code: (error as IsthmusError).code });
      }
    }
  }

  /** Ends what a device negotiates, all or for one subscription. */
  cancel(subscriberKey: string, code: Code, subscription?: string): void {
    for (const running of [...this.#bySubscriber.of(subscriberKey)]) {
      if (subscription !== undefined && running.body.subscription !== subscription) continue;
      this.#step(running, { is: "withdrawn", code });
    }
  }

  /** The subscription that a request made is over: the same request made again is a new one. */
  forgetAnswer(negotiation: string): void {
    this.#answers.forget(negotiation);
  }

  sweep(now: number): void {
    this.#answers.sweep(now);
  }

  stop(): void {
    for (const key of [...this.#bySubscriber.names()]) this.cancel(key, "shutting-down");
  }

  #begin(
    key: string,
    session: DaemonSession,
    body: SubscribeBody,
    requestId: string,
    waiter: PromiseWithResolvers<SubscribeReply>,
  ): void {
    const listing = this.#check(session, body);
    // A request that its sender gave up and sent anew under another id.
    this.cancel(session.key, "replaced", body.subscription);
    const running = this.#bySubscriber.of(session.key).size;
    this.#options.subscriptions.checkRoom(session.key, body.subscription, running);
    const now = this.#options.now();
    const waitMs = Math.max(body.waitMs, this.#options.isBlinking(listing.device) ? BLINK_MS : 0);
    const negotiation: Running = {
      key,
      requestId,
      body,
      service: listing.id,
      startedAt: now,
      state: begin(waitMs, TIMES, now),
      session,
      waiters: [waiter],
      timer: undefined,
      timerAt: Number.POSITIVE_INFINITY,
      provider: undefined,
      direct: undefined,
      pair: undefined,
      channels: listing.spec.channels,
      handshake: undefined,
      refusal: undefined,
    };
    this.#running.set(key, negotiation);
    this.#byService.add(negotiation.service, negotiation);
    this.#bySubscriber.add(session.key, negotiation);
    this.#lookForProvider(negotiation);
    this.#step(negotiation, { is: "time" });
  }

  /**
   * The service, if this daemon may subscribe to it so.
   * @throws IsthmusError `unknown-user`, `unknown-service`, `not-allowed`, `plain-refused`, `bad-request`
   */
  #check(session: DaemonSession, { user, service, plain }: SubscribeBody): Listing {
    const listing = this.#options.directory.get(serviceId(user, service));
    if (!listing) throw new IsthmusError(this.#options.profiles.user(user) ? "unknown-service" : "unknown-user");
    if (!includes(listing, session.context.user)) throw new IsthmusError("not-allowed");
    if (plain && !listing.spec.plain) throw new IsthmusError("plain-refused");
    if (listing.device === session.key) throw new IsthmusError("bad-request", "the service is this device's own");
    return listing;
  }

  #lookForProvider(running: Running): void {
    const listing = this.#options.directory.get(running.service);
    const provider = listing && this.#options.daemons(listing.device);
    if (!provider?.context.declared || running.state.ask !== "unsent") return;
    running.channels = listing!.spec.channels;
    running.provider = { user: provider.context.user, key: provider.key, boot: provider.boot };
    running.direct = directRow(provider, running.session);
    this.#step(running, { is: "provider-present", allocation: running.direct === undefined });
  }

  #step(running: Running, input: NegotiationInput): void {
    const now = this.#options.now();
    const { state, commands } = step(running.state, input, TIMES, now);
    running.state = state;
    for (const command of commands) this.#carryOut(running, command);
    this.#arm(running, now);
  }

  #arm(running: Running, now: number): void {
    const at = deadlineOf(running.state);
    if (at === running.timerAt) return;
    clearTimeout(running.timer);
    running.timerAt = at;
    if (at === Number.POSITIVE_INFINITY) return;
    running.timer = setTimeout(
      () => {
        running.timerAt = Number.POSITIVE_INFINITY;
        this.#step(running, { is: "time" });
      },
      // One more, since timers fire up to a millisecond early.
      Math.min(Math.max(0, at - now) + 1, LONGEST_TIMER_MS),
    );
  }

  #carryOut(running: Running, command: NegotiationCommand): void {
    switch (command.do) {
      case "ask":
        this.#ask(running);
        break;
      case "allocate":
        this.#allocate(running);
        break;
      case "tell":
        this.#tell(running);
        break;
      case "give-back":
        this.#options.pairs.drop(running.pair!, running);
        break;
      case "fail":
        this.#fail(running, running.refusal?.code === command.code ? running.refusal : new IsthmusError(command.code));
        break;
    }
  }

  #ask(running: Running): void {
    const { body, requestId, provider } = running;
    const session = this.#options.daemons(provider!.key);
    if (!session) {
      this.#step(running, { is: "provider-lost" });
      return;
    }
    const asking = session.request(
      "ask",
      {
        negotiation: requestId,
        subscription: body.subscription,
        service: body.service,
        subscriber: peerOf(this.#options.profiles, running.session.key),
        handshake: body.handshake,
        plain: body.plain,
      },
      { id: askId(running.key), timeoutMs: TIMES.answerMs },
    );
    asking.then(
      ({ handshake }) => {
        running.handshake = handshake;
        this.#step(running, { is: "accepted" });
      },
      (error: IsthmusError) => this.#refused(running, error),
    );
  }

  #refused(running: Running, error: IsthmusError): void {
    if (error.code === "disconnected") {
      this.#step(running, { is: "provider-lost" });
      // It may have logged in again before its old session was seen to end.
      this.#lookForProvider(running);
      return;
    }
    running.refusal = relayedRefusal(error);
    this.#step(running, { is: "refused", code: running.refusal.code });
  }

  #allocate(running: Running): void {
    const { pairs } = this.#options;
    const pair = pairs.of(running.session.key, running.provider!.key);
    pairs.hold(pair, running);
    running.pair = pair;
    pairs.obtain(pair).then(
      () => this.#step(running, { is: "allocated" }),
      (error: IsthmusError) => {
        pairs.drop(pair, running);
        running.refusal = error;
        this.#step(running, { is: "not-allocated", code: error.code });
      },
    );
  }

  #tell(running: Running): void {
    const { subscriptions, pairs, profiles, now } = this.#options;
    const { body, provider, session } = running;
    const subscription = subscriptions.put({
      id: body.subscription,
      service: body.service,
      provider: { user: provider!.user, key: provider!.key },
      subscriber: { user: session.context.user, key: session.key },
      direct: running.direct,
      providerBoot: provider!.boot,
      negotiation: running.key,
      answeredOver: session,
    });
    if (running.pair) pairs.drop(running.pair, running);
    const grant = subscriptions.grantOf(subscription);
    // The provider first: the subscriber's first open is on its way as soon as it has its answer.
    subscriptions.tell(subscription, "provider", grant);
    const reply: SubscribeReply = {
      ...subscriptions.meetingOf(subscription, session.key),
      peer: peerOf(profiles, provider!.key),
      grant,
      handshake: running.handshake!,
      channels: running.channels,
    };
    this.#answers.keep(running.key, reply, now());
    this.#remove(running, "told");
    for (const waiter of running.waiters) waiter.resolve(reply);
  }

  #fail(running: Running, error: IsthmusError): void {
    this.#answers.keep(running.key, error, this.#options.now());
    this.#options.logger.info(
      { negotiation: running.requestId, service: running.service, code: error.code },
      `no subscription: ${error.message}`,
    );
    this.#remove(running, error.code);
    for (const waiter of running.waiters) waiter.reject(error);
  }

  #remove(running: Running, outcome: string): void {
    clearTimeout(running.timer);
    this.#running.delete(running.key);
    this.#byService.remove(running.service, running);
    this.#bySubscriber.remove(running.session.key, running);
    this.#options.onEnd(outcome, this.#options.now() - running.startedAt);
    this.#options.logger.debug({ negotiation: running.requestId, phase: phaseOf(running.state) }, "negotiation ended");
  }
}

/** The same negotiation asks under the same id, so that the provider recognises a repeat. */
function askId(key: string): string {
  return createHash("sha256").update(key).digest("base64url").slice(0, 32);
}

/** An end whose leg port the broker has reached is dialled by the other (T 3.3). */
function directRow(provider: DaemonSession, subscriber: DaemonSession): Direct | undefined {
  const { reachable } = provider.context;
  if (reachable !== undefined) return { dialler: "subscriber", addresses: [reachable] };
  const own = subscriber.context.reachable;
  return own === undefined ? undefined : { dialler: "provider", addresses: [own] };
}

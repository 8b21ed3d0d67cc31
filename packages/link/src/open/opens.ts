import type { Socket } from "node:net";
import { type Code, type HostPort, type Opener, type Rendezvous, toIsthmusError } from "@isthmus/protocol";
import type { GenerationState } from "../generation-state.ts";
import { listenTo, SocketEndpoint } from "../leg/socket-endpoint.ts";
import type { Link } from "../link.ts";
import type { LinkHost } from "../link-host.ts";
import { connectTo } from "../meeting/connect.ts";
import type { LegDialer } from "../meeting/leg-dialer.ts";
import { AnswererStream } from "./answerer-stream.ts";
import { JoinTime } from "./join-time.ts";
import { attemptTimeoutMs } from "./opener.ts";
import { OpenerStream } from "./opener-stream.ts";
import type { Leg, LegOutcome, OpenMessage, Stream, StreamEnvironment, StreamMessage } from "./stream.ts";

/** A service on this host or in its LAN that does not answer within this is down. */
const SERVICE_CONNECT_TIMEOUT_MS = 5000;

/** Open connections that met at cells, by whether their ports pass unchanged. */
export interface SpliceCounts {
  passive: number;
  pure: number;
}

interface Entry {
  subscription: string;
  dialledAt: number;
  /** Where it was joined. */
  met: Rendezvous | undefined;
  timer: NodeJS.Timeout | undefined;
}

/** The streams of one link, both ways, between sockets of applications and legs. */
export class Opens implements StreamEnvironment {
  readonly #link: Link;
  readonly #host: LinkHost;
  readonly #dialer: LegDialer;
  readonly #entries = new Map<Stream, Entry>();
  /** Those that are not joined. */
  readonly #unjoined = new Set<Stream>();
  readonly #joinTime = new JoinTime();

  constructor(link: Link, host: LinkHost, dialer: LegDialer) {
    this.#link = link;
    this.#host = host;
    this.#dialer = dialer;
  }

  get size(): number {
    return this.#entries.size;
  }

  countOf(subscription: string): number {
    let count = 0;
    for (const entry of this.#entries.values()) if (entry.subscription === subscription) count++;
    return count;
  }

  /** How connections are spliced: all, or those of one subscription. */
  splices(subscription?: string): SpliceCounts {
    const counts = { passive: 0, pure: 0 };
    for (const entry of this.#entries.values()) {
      if (entry.met?.at !== "cell" || (subscription !== undefined && subscription !== entry.subscription)) continue;
      counts[entry.met.mode]++;
    }
    return counts;
  }

  /** An application connected here: opens a channel to the peer for it. */
  open(
    state: GenerationState,
    socket: Socket,
    what: { subscription: string; channel: string; opener: Opener; plain: boolean },
  ): void {
    const { subscription, channel, opener, plain } = what;
    const openId = state.nextOpenId();
    const stream: OpenerStream = new OpenerStream(this, {
      generation: state.generation,
      openId,
      plain,
      open: { proto: "tcp", subscription, channel, opener },
      timeoutMs: this.#attemptTimeoutMs,
      choose: (attempt) => this.#link.chooseStream(attempt),
      carriesOpen: (rendezvous) => rendezvous.at === "direct" && !plain && this.#link.dialsDirect,
    });
    state.openers.set(openId, stream);
    this.#enter(stream, subscription);
    this.#attach(stream, socket);
    stream.start();
  }

  /** An `open` of the peer over control. */
  openByPeer(state: GenerationState, message: OpenMessage): void {
    const known = state.answerers.get(message.id);
    if (known) {
      known.open(message.attempt, message.rendezvous);
      return;
    }
    this.#answer(state, message, (stream) => stream.open(message.attempt, message.rendezvous));
  }

  /** An `open` that came as the first record of a direct leg. @returns the stream, nothing when it was refused */
  openByLeg(state: GenerationState, message: OpenMessage): AnswererStream | undefined {
    if (this.#link.stateOf(state.generation.id) !== state) return undefined;
    return state.answerers.get(message.id) ?? this.#answer(state, message);
  }

  /** @param dialLeg where the leg is not there yet */
  #answer(
    state: GenerationState,
    message: OpenMessage,
    dialLeg?: (stream: AnswererStream) => void,
  ): AnswererStream | undefined {
    const { id, attempt, subscription, channel, opener, proto, plain } = message;
    if (id % 2 === state.generation.role || !state.peerOpens.take(id)) {
      this.#host.count("repeated-open");
      this.#link.tell(state, { t: "refused", id, attempt, code: "repeated-open" });
      return undefined;
    }
    if (subscription === undefined || channel === undefined || opener === undefined) {
      this.#link.tell(state, { t: "refused", id, attempt, code: "bad-request" });
      return undefined;
    }
    let target: HostPort;
    try {
      target = this.#host.admit(this.#link, { subscription, channel, opener, proto, plain });
    } catch (error) {
      this.#link.tell(state, { t: "refused", id, attempt, code: toIsthmusError(error).code });
      return undefined;
    }
    const stream = new AnswererStream(this, {
      generation: state.generation,
      openId: id,
      plain,
      timeoutMs: this.#attemptTimeoutMs,
    });
    state.answerers.set(id, stream);
    this.#enter(stream, subscription);
    // Ahead of the service, whose connection may be made within the call that asks for it: the leg has a longer way.
    dialLeg?.(stream);
    const service = connectTo(target);
    this.#attach(stream, service);
    let isConnected = false;
    const timer = setTimeout(() => service.destroy(), SERVICE_CONNECT_TIMEOUT_MS);
    service.once("connect", () => {
      isConnected = true;
      clearTimeout(timer);
      stream.serviceConnected();
    });
    service.once("close", () => {
      clearTimeout(timer);
      if (!isConnected) stream.serviceFailed("service-down");
    });
    return stream;
  }

  get #attemptTimeoutMs(): number {
    return attemptTimeoutMs(this.#link.rttMs, this.#unjoined.size, this.#joinTime.mostMs);
  }

  #enter(stream: Stream, subscription: string): void {
    this.#entries.set(stream, { subscription, dialledAt: 0, met: undefined, timer: undefined });
    this.#unjoined.add(stream);
  }

  #attach(stream: Stream, app: Socket): void {
    stream.attach(new SocketEndpoint(app));
    listenTo(app, {
      data: (chunk) => stream.appData(chunk),
      end: () => stream.appEnd(),
      drained: () => stream.appDrained(),
      lost: () => stream.appLost(),
    });
  }

  /** A path came up: opens that wait for one go on. */
  retry(): void {
    for (const stream of this.#entries.keys()) if (stream instanceof OpenerStream) stream.retry();
  }

  /** Ends all streams, or those of one subscription, or those under keys that the peer lost. */
  end(which: { subscription?: string; generation?: string }, code: Code): void {
    for (const [stream, { subscription }] of [...this.#entries]) {
      if (which.subscription !== undefined && which.subscription !== subscription) continue;
      if (which.generation !== undefined && which.generation !== stream.generation.id) continue;
      stream.stop(code);
    }
  }

  /** Allocations at which streams met or try to meet: they are needed as long as these live. */
  get allocations(): Set<string> {
    const used = new Set<string>();
    for (const { rendezvous } of this.#entries.keys()) {
      if (rendezvous !== undefined && rendezvous.at !== "direct") used.add(rendezvous.allocation);
    }
    return used;
  }

  // StreamEnvironment

  now(): number {
    return performance.now();
  }

  wake(stream: Stream, at: number | undefined): void {
    const entry = this.#entries.get(stream);
    if (!entry) return;
    clearTimeout(entry.timer);
    // Late timers come first in Node's turn: what has arrived meanwhile is read before time is said to be up.
    const tick = (): void => void setImmediate(() => stream.tick());
    entry.timer = at === undefined ? undefined : setTimeout(tick, Math.max(0, at - performance.now()));
  }

  dial(stream: Stream, leg: Leg): void {
    const entry = this.#entries.get(stream);
    if (entry) entry.dialledAt = performance.now();
    this.#dialer.dial(stream, leg);
  }

  tell(stream: Stream, message: StreamMessage): void {
    const state = this.#link.stateOf(stream.generation.id);
    if (state) this.#link.tell(state, message);
  }

  settled(stream: Stream, rendezvous: Rendezvous, outcome: LegOutcome): void {
    const entry = this.#entries.get(stream);
    if (outcome === "joined") {
      this.#unjoined.delete(stream);
      if (entry) {
        entry.met = rendezvous;
        this.#joinTime.took(performance.now() - entry.dialledAt);
      }
    }
    this.#link.meetingSettled(rendezvous, outcome, { isOurs: stream instanceof OpenerStream });
  }

  ended(stream: Stream, code: Code): void {
    const entry = this.#entries.get(stream);
    if (!entry) return;
    clearTimeout(entry.timer);
    this.#entries.delete(stream);
    this.#unjoined.delete(stream);
    const state = this.#link.stateOf(stream.generation.id);
    const isOpener = stream instanceof OpenerStream;
    if (isOpener) state?.openers.delete(stream.openId);
    else state?.answerers.delete(stream.openId);
    if (entry.met && isOpener) this.#link.meetingEnded(entry.met);
    this.#host.streamEnded(this.#link, entry.subscription, code, isOpener ? "opened" : "answered");
  }
}

import { type Code, IsthmusError, type LinkControlMessage, type Rendezvous, toIsthmusError } from "@isthmus/protocol";
import { freeMemory, isWorthFreeing } from "@isthmus/service";
import type { Generation } from "../keys/generation.ts";
import { type HandedLeg, type LegEvent, LegStream } from "../leg/leg-stream.ts";
import { UnprovedBytes } from "./unproved-bytes.ts";

/**
 * A connection as a stream uses it: the application's (or the service's), or a leg. What it says back goes to the methods
 * of {@link Stream} and {@link Leg}.
 */
export interface Endpoint {
  /**
   * @param spent called when nothing refers to the chunk any more: the kernel has it, or it will never be sent
   * @returns false when no more should be written until it has drained
   */
  write(chunk: Buffer, spent?: () => void): boolean;
  /** Ends this direction (FIN). */
  end(): void;
  /** Ends both directions so that the other side sees a failure (RST), at once or within about a second. */
  reset(later?: boolean): void;
  /** Both directions have ended: frees the connection once all is written, though the other side may not close it. */
  close(): void;
  pause(): void;
  resume(): void;
  /**
   * Joins it with another one, so that bytes, ends and failures pass between the two without the stream. Neither reports
   * anything any more; `reset` of either ends both.
   * @param sealed the other one carries records, which are sealed and opened on the way
   * @returns false where that cannot be, now or ever: nothing has changed then
   */
  joinWith?(other: Endpoint, onEnded: (outcome: JoinOutcome) => void, sealed?: HandedLeg): boolean;
}

/** How two endpoints that were joined have ended: in order, or by a failure of one of them. */
export type JoinOutcome = "finished" | "lost" | "other-lost" | "bad-record";

export type OpenMessage = Extract<LinkControlMessage, { t: "open" }>;
export type StreamMessage = Extract<LinkControlMessage, { t: "open" | "refused" | "cancel" }>;

/**
 * What became of a leg: it is the peer's, its way to the peer failed, or nobody waited for it any more (the application
 * left, the service is down), which says nothing of the way.
 */
export type LegOutcome = "joined" | "failed" | "given-up";

const CODES: Record<Exclude<JoinOutcome, "finished">, Code> = {
  lost: "application-reset",
  "other-lost": "leg-lost",
  "bad-record": "bad-record",
};

/** What a stream asks of the world around it. */
export interface StreamEnvironment {
  now(): number;
  /** Calls {@link Stream.tick} at that time; replaces the earlier wish of the same stream. */
  wake(stream: Stream, at: number | undefined): void;
  /** Connects a leg; its methods are called later, never from within. */
  dial(stream: Stream, leg: Leg): void;
  /** Sends a control message of this open to the peer. */
  tell(stream: Stream, message: StreamMessage): void;
  /** A leg is proved or given up: its cell is free, or soon. */
  settled(stream: Stream, rendezvous: Rendezvous, outcome: LegOutcome): void;
  /** Nothing more will happen; both connections are closed or closing. */
  ended(stream: Stream, code: Code): void;
}

export interface StreamSpec {
  generation: Generation;
  openId: number;
  plain: boolean;
}

/** One attempt's leg. Its connection reports here; once dropped, what it reports is ignored. */
export class Leg {
  readonly attempt: number;
  readonly rendezvous: Rendezvous;
  readonly codec: LegStream;
  endpoint: Endpoint | undefined;
  /** Its connection was made. */
  stood = false;
  /** This side's preface is on it. */
  isUp = false;
  isDropped = false;
  readonly #owner: Stream;

  constructor(owner: Stream, attempt: number, rendezvous: Rendezvous, codec: LegStream) {
    this.#owner = owner;
    this.attempt = attempt;
    this.rendezvous = rendezvous;
    this.codec = codec;
  }

  /** The connection stands; a leg header, where one belongs, was written. */
  up(endpoint: Endpoint): void {
    this.endpoint = endpoint;
    this.stood = true;
    if (this.isDropped) endpoint.reset();
    else this.#owner.legUp(this);
  }

  data(chunk: Buffer): void {
    if (!this.isDropped) this.#owner.legData(this, chunk);
  }

  /** One event of the codec, for a leg whose bytes are read elsewhere at the moment. */
  event(event: LegEvent): void {
    this.#owner.legEvent(this, event);
  }

  /** The other end will send no more (FIN). */
  end(): void {
    if (!this.isDropped) this.#owner.legEnd(this);
  }

  /** The connection failed, or closed before its end. */
  lost(code: Code): void {
    if (!this.isDropped) this.#owner.legLost(this, code);
  }

  drained(): void {
    if (!this.isDropped) this.#owner.legDrained();
  }
}

/**
 * One open between the two daemons, from either side, as a live thing: moves bytes between an application's connection
 * and the leg that proves to be the peer's. Until then it keeps what the application sent. Knows no sockets.
 */
export abstract class Stream {
  protected readonly env: StreamEnvironment;
  readonly generation: Generation;
  readonly openId: number;
  readonly plain: boolean;
  protected leg: Leg | undefined;
  #app: Endpoint | undefined;
  #unproved: UnprovedBytes | undefined = new UnprovedBytes();
  /** What the peer said behind its preface on a leg that is not joined yet. Nothing of it was delivered. */
  #held: LegEvent[] = [];
  #appEnded = false;
  #peerEnded = false;
  #over = false;

  constructor(env: StreamEnvironment, spec: StreamSpec) {
    this.env = env;
    this.generation = spec.generation;
    this.openId = spec.openId;
    this.plain = spec.plain;
  }

  get isOver(): boolean {
    return this.#over;
  }

  /** Where its present leg is. */
  get rendezvous(): Rendezvous | undefined {
    return this.leg?.rendezvous;
  }

  abstract tick(): void;
  /** A valid preface came on the leg of the present attempt. */
  protected abstract onPreface(leg: Leg): void;
  /** The leg of the present attempt failed before it was proved. */
  protected abstract onUnprovedLegLost(leg: Leg, code: Code): void;
  /** The application's connection failed, or may not go on, before the leg was proved. */
  protected abstract onAppLostUnproved(code: Code): void;
  /** What goes ahead of the application's bytes on a new leg. */
  protected opening(leg: Leg): Buffer[] {
    return [leg.codec.preface()];
  }

  // The application's connection

  attach(app: Endpoint): void {
    this.#app = app;
  }

  /** @param chunk belongs to this object from now on */
  appData(chunk: Buffer): void {
    if (this.#over) return;
    const { leg } = this;
    if (this.#unproved) {
      this.#unproved.keep(chunk);
      if (leg?.isUp) leg.endpoint!.write(leg.codec.seal(chunk));
      if (this.#unproved.full) this.#app?.pause();
    } else this.#pass(chunk, leg!);
  }

  #pass(chunk: Buffer, { codec, endpoint }: Leg): void {
    const bytes = codec.seal(chunk);
    if (bytes !== chunk) freeMemory(chunk);
    const spent = isWorthFreeing(bytes) ? () => freeMemory(bytes) : undefined;
    if (!endpoint!.write(bytes, spent)) this.#app?.pause();
  }

  /** The application will send no more (FIN). */
  appEnd(): void {
    if (this.#over || this.#appEnded) return;
    this.#appEnded = true;
    if (this.leg?.isUp) this.#sendEnd(this.leg);
    this.#finishIfDone();
  }

  appDrained(): void {
    this.leg?.endpoint?.resume();
    this.#joinEndpoints();
  }

  /** The application's connection failed, or closed before its end. */
  appLost(): void {
    this.stop("application-reset");
  }

  /** Ends it from this side: both connections are reset, the peer hears why if it still waits for the leg. */
  stop(code: Code): void {
    if (this.#over) return;
    if (this.#unproved) this.onAppLostUnproved(code);
    else this.giveUp(code);
  }

  // The leg

  legUp(leg: Leg): void {
    leg.isUp = true;
    const early = this.#unproved?.all() ?? [];
    const bytes = [...this.opening(leg), ...early.map((chunk) => leg.codec.seal(chunk))];
    const end = this.#appEnded ? leg.codec.end() : undefined;
    if (end) bytes.push(end);
    leg.endpoint!.write(bytes.length === 1 ? bytes[0]! : Buffer.concat(bytes));
    if (this.#appEnded) leg.endpoint!.end();
  }

  legData(leg: Leg, chunk: Buffer): void {
    try {
      leg.codec.receive(chunk, (event) => this.legEvent(leg, event));
    } catch (error) {
      const { code } = toIsthmusError(error);
      if (this.#over || leg.isDropped) return;
      if (this.#unproved) this.onUnprovedLegLost(leg, code);
      else this.giveUp(code);
    }
  }

  legEnd(leg: Leg): void {
    if (this.#over) return;
    const { prefaced, ended } = leg.codec;
    if (this.plain && prefaced) this.legEvent(leg, { is: "end" });
    // A FIN without the sealed end may be the relay's own: it must not look like the peer's.
    else if (!ended) this.legLost(leg, "leg-lost");
  }

  legLost(leg: Leg, code: Code): void {
    if (this.#over) return;
    if (this.#unproved) this.onUnprovedLegLost(leg, code);
    else this.giveUp("leg-lost");
  }

  legDrained(): void {
    if (!this.#unproved?.full) this.#app?.resume();
    this.#joinEndpoints();
  }

  // For the two kinds of stream

  /** @param codec of a leg that has begun already */
  protected newLeg(attempt: number, rendezvous: Rendezvous, codec?: LegStream): Leg {
    const { generation, openId, plain } = this;
    this.#held = [];
    this.leg = new Leg(this, attempt, rendezvous, codec ?? new LegStream({ generation, openId, attempt, plain }));
    return this.leg;
  }

  /** Resets the leg and tells the world what became of it. */
  protected dropLeg(outcome: Exclude<LegOutcome, "joined">, later = false): void {
    const leg = this.#resetLeg(later);
    if (!leg) return;
    // A direct connection that was made shows that this way works: what was missing is at the other end.
    const isWayGood = leg.stood && leg.rendezvous.at === "direct";
    this.env.settled(this, leg.rendezvous, isWayGood ? "given-up" : outcome);
  }

  protected join(): void {
    const wasFull = this.#unproved?.full ?? false;
    this.#unproved = undefined;
    if (wasFull) this.#app?.resume();
    const { leg } = this;
    const held = this.#held.splice(0);
    if (held.length > 0) leg!.endpoint?.resume();
    for (const event of held) this.legEvent(leg!, event);
    this.#finishIfDone();
    // Not before what came with the preface is delivered.
    queueMicrotask(() => this.#joinEndpoints());
  }

  /**
   * From here on the bytes need nobody to look at them, but for their seals. While something waits to be written it is tried
   * again when that has drained; of little nobody is told, and such a connection stays here.
   */
  #joinEndpoints(): void {
    const { leg } = this;
    if (!leg?.endpoint || this.#unproved || this.#over || this.#appEnded || this.#peerEnded) return;
    const ended = (outcome: JoinOutcome): void => {
      if (this.#over) return;
      if (outcome === "finished") {
        this.#over = true;
        this.env.ended(this, "finished");
      } else this.giveUp(CODES[outcome]);
    };
    const sealed = leg.codec.handOver();
    // Clear bytes must never pass where sealed ones belong.
    if (!sealed && !this.plain) return;
    if (this.#app?.joinWith?.(leg.endpoint, ended, sealed)) leg.codec.handedOver();
  }

  /** Ends everything: the application sees a reset, the leg too. */
  protected giveUp(code: Code): void {
    if (this.#over) return;
    this.#over = true;
    this.#resetLeg();
    this.#app?.reset();
    this.env.wake(this, undefined);
    this.env.ended(this, code);
  }

  legEvent(leg: Leg, event: LegEvent): void {
    // A preface may have led to a drop (a refused join): what follows it is nobody's.
    if (this.#over || leg.isDropped) return;
    if (event.is === "preface") this.onPreface(leg);
    else if (event.is === "open") throw new IsthmusError("bad-record", "a second open on one leg");
    else if (this.#unproved) {
      // Another attempt may bring the same bytes again: they are delivered from the leg that is joined, or never.
      this.#held.push(event);
      leg.endpoint?.pause();
    } else if (event.is === "end") this.#onPeerEnd();
    else if (!this.#app?.write(event.data, event.spent)) leg.endpoint?.pause();
  }

  #resetLeg(later = false): Leg | undefined {
    const { leg } = this;
    if (!leg) return undefined;
    this.#held = [];
    leg.isDropped = true;
    leg.endpoint?.reset(later);
    this.leg = undefined;
    return leg;
  }

  #onPeerEnd(): void {
    if (this.#peerEnded) return;
    this.#peerEnded = true;
    this.#app?.end();
    this.#finishIfDone();
  }

  #sendEnd(leg: Leg): void {
    const end = leg.codec.end();
    if (end) leg.endpoint!.write(end);
    leg.endpoint!.end();
  }

  #finishIfDone(): void {
    if (this.#unproved || !this.#appEnded || !this.#peerEnded || this.#over) return;
    this.#over = true;
    this.leg!.endpoint!.close();
    this.env.ended(this, "finished");
  }
}

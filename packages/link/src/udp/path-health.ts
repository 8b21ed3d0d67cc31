import { LIMITS } from "@isthmus/protocol";

/** Hellos of a path that is not proved yet: often, since datagrams wait for it. */
const PROBING_EVERY_MS = 200;
/** A path that is not proved after this is given up. */
const PROBING_LIMIT_MS = 5000;
/** Hellos while this side sends: two lost ones and the path is left, within 2 s. */
const BUSY_EVERY_MS = 1000;
const BUSY_ANSWER_MS = 1000;
/** Hellos of an idle path keep NAT mappings alive (RFC 4787 lets them die after 120 s, many do after 30 s). */
const IDLE_EVERY_MS = 15_000;
/** This side counts as sending for this long after a datagram. */
const BUSY_FOR_MS = 3000;
/** Unanswered hellos, in a row, after which a path is dead. */
const LOST_HELLOS = 2;
/** Tries of a size before it is taken not to pass. */
const SIZE_TRIES = 3;

export interface Hello {
  nonce: bigint;
  /** Bytes of UDP payload that the hello shall fill. */
  bytes: number;
}

/**
 * Whether a UDP path lives and what size passes it, by hellos and their answers alone. Pure: times go in, hellos come
 * out. A path is `up` when a hello of this side was answered: then both directions work.
 */
export class PathHealth {
  #state: "probing" | "up" | "dead" = "probing";
  readonly #since: number;
  /** Not before the carrier is ready. */
  #nextHello = Number.POSITIVE_INFINITY;
  #lastSent = Number.NEGATIVE_INFINITY;
  #nonce = 0n;
  /** The hellos without an answer yet, oldest first. */
  #open: { nonce: bigint; at: number; bytes: number }[] = [];
  #unanswered = 0;
  #wasHeard = false;
  #passes: number = LIMITS.datagramFloorBytes;
  #sizeTries = 0;
  #rttMs: number | undefined;

  constructor(now: number) {
    this.#since = now;
  }

  /** There is a socket to send on. */
  ready(now: number): void {
    this.#nextHello = now;
  }

  /** The peer is heard on a path that is not proved: its hello may have been the first that was let through. */
  heard(now: number): void {
    if (this.#state !== "probing" || this.#wasHeard) return;
    this.#wasHeard = true;
    this.#nextHello = now;
  }

  get state(): "probing" | "up" | "dead" {
    return this.#state;
  }

  /** UDP payload that the path passes, as far as is known. */
  get bytes(): number {
    return this.#passes;
  }

  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  get wakeAt(): number | undefined {
    if (this.#state === "dead") return undefined;
    const oldest = this.#open[0];
    const limit = this.#state === "probing" ? this.#since + PROBING_LIMIT_MS : Number.POSITIVE_INFINITY;
    return Math.min(this.#nextHello, limit, oldest ? oldest.at + this.#answerMs() : limit);
  }

  /** This side sent application data. */
  sent(now: number): void {
    const wasBusy = this.#isBusy(now);
    this.#lastSent = now;
    // An idle path may have died meanwhile: it must prove itself soon.
    if (!wasBusy && this.#state === "up") this.#nextHello = Math.min(this.#nextHello, now + BUSY_EVERY_MS / 4);
  }

  answered(nonce: bigint, bytes: number, now: number): void {
    const index = this.#open.findIndex((hello) => hello.nonce === nonce);
    if (index < 0 || this.#state === "dead") return;
    const hello = this.#open[index]!;
    // Older hellos are settled too: a later one got through.
    this.#open.splice(0, index + 1);
    this.#unanswered = 0;
    this.#rttMs = now - hello.at;
    if (bytes >= hello.bytes && hello.bytes > this.#passes) this.#passes = hello.bytes;
    if (this.#state === "probing") {
      this.#state = "up";
      this.#nextHello = now;
    }
  }

  /** @returns the hellos to send now */
  tick(now: number): Hello[] {
    if (this.#state === "dead") return [];
    this.#dropUnanswered(now);
    const isLate = this.#state === "probing" && now - this.#since >= PROBING_LIMIT_MS;
    if (isLate || (this.#state === "up" && this.#unanswered >= LOST_HELLOS)) {
      this.#state = "dead";
      return [];
    }
    if (now < this.#nextHello) return [];
    const every =
      this.#state === "probing"
        ? PROBING_EVERY_MS
        : this.#isBusy(now) || this.#unanswered > 0
          ? BUSY_EVERY_MS
          : IDLE_EVERY_MS;
    this.#nextHello = now + every;
    const hellos = [this.#hello(LIMITS.datagramFloorBytes / 4, now)];
    if (this.#state === "up" && this.#passes < LIMITS.datagramCeilingBytes && this.#sizeTries < SIZE_TRIES) {
      this.#sizeTries++;
      hellos.push(this.#hello(LIMITS.datagramCeilingBytes, now));
    }
    return hellos;
  }

  #hello(bytes: number, now: number): Hello {
    const nonce = this.#nonce++;
    this.#open.push({ nonce, at: now, bytes });
    return { nonce, bytes };
  }

  #dropUnanswered(now: number): void {
    for (let oldest = this.#open[0]; oldest && now - oldest.at >= this.#answerMs(); oldest = this.#open[0]) {
      this.#open.shift();
      // A hello that was made large to probe says nothing of the path when it is lost.
      if (oldest.bytes <= LIMITS.datagramFloorBytes) this.#unanswered++;
    }
  }

  /** A path with a long round trip gets the time that it needs. */
  #answerMs(): number {
    return Math.max(BUSY_ANSWER_MS, 2 * (this.#rttMs ?? 0));
  }

  #isBusy(now: number): boolean {
    return now - this.#lastSent < BUSY_FOR_MS;
  }
}

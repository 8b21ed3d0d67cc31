import { LIMITS } from "@isthmus/protocol";

/** Hellos of a path that is not proved yet: often, since datagrams wait for it. */
const PROBING_EVERY_MS = 200;
/** A path that is not proved after this is given up. */
const PROBING_LIMIT_MS = 5000;
/** Hellos while this side sends. */
const BUSY_EVERY_MS = 1000;
/** Hellos of an idle path keep NAT mappings alive (RFC 4787 lets them die after 120 s, many do after 30 s). */
const IDLE_EVERY_MS = 15_000;
/** This side counts as sending for this long after a datagram. */
const BUSY_FOR_MS = 3000;
/** The first hello after idleness comes this soon: the path may have died meanwhile. */
const BUSY_AGAIN_MS = 250;
/** A hello without an answer for this long, or one and a half round trips, is said again and again, ... */
const SUSPECT_AFTER_MS = 300;
const SUSPECT_EVERY_MS = 150;
/**
 * ... and after this, or four round trips, the path is dead: with the second until the next hello that makes less than
 * 2 s, within which a dead path is to be left. So many hellos must have gone then, so that neither a few that are lost nor
 * a process that was held up for a moment end a path that lives.
 */
const DEAD_AFTER_MS = 900;
const LEAST_UNANSWERED = 4;
/** Hellos whose answers are still known as such. */
const KEPT_HELLOS = 32;
/** A large hello without an answer for this long, or two round trips, is lost. */
const SIZE_ANSWER_MS = 900;
/** Large hellos lost in a row, after which the size is taken not to pass. */
const SIZE_TRIES = 3;
/** A size that passes is looked at again this often under traffic (the route may change), one that does not now and then. */
const SIZE_CHECK_MS = 10_000;
const SIZE_RETRY_MS = 600_000;

const SMALL_BYTES = LIMITS.datagramFloorBytes / 4;
const LARGE_BYTES = LIMITS.datagramCeilingBytes;

export interface Hello {
  nonce: bigint;
  /** Bytes of UDP payload that the hello shall fill. */
  bytes: number;
}

interface Sent extends Hello {
  at: number;
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
  /** The newest small hellos behind the newest answer, oldest first. */
  #unanswered: Sent[] = [];
  /** The large hello under way. */
  #large: Sent | undefined;
  #largeLost = 0;
  #nextLarge = Number.NEGATIVE_INFINITY;
  #wasHeard = false;
  #passes: number = LIMITS.datagramFloorBytes;
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

  /** When {@link tick} wants to be called next; nothing when the path is dead. */
  get wakeAt(): number | undefined {
    if (this.#state === "dead") return undefined;
    const limit = this.#state === "probing" ? this.#since + PROBING_LIMIT_MS : this.#suspectAt;
    return Math.min(this.#nextHello, limit);
  }

  /** This side sent application data. */
  sent(now: number): void {
    const wasBusy = this.#isBusy(now);
    this.#lastSent = now;
    if (!wasBusy && this.#state === "up") this.#nextHello = Math.min(this.#nextHello, now + BUSY_AGAIN_MS);
  }

  /** @param bytes UDP payload of the hello as it arrived */
  answered(nonce: bigint, bytes: number, now: number): void {
    if (this.#state === "dead") return;
    const large = this.#large?.nonce === nonce ? this.#large : undefined;
    const small = this.#unanswered.find((hello) => hello.nonce === nonce);
    const hello = large ?? small;
    if (!hello) return;
    this.#rttMs = now - hello.at;
    // Older hellos are settled too: a later one got through.
    this.#unanswered = this.#unanswered.filter((other) => other.nonce > nonce);
    if (large) {
      this.#large = undefined;
      if (bytes >= large.bytes) {
        this.#passes = large.bytes;
        this.#largeLost = 0;
        this.#nextLarge = now + SIZE_CHECK_MS;
      }
    }
    if (this.#state === "probing") {
      this.#state = "up";
      this.#nextHello = now;
    }
  }

  /** @returns the hellos to send now */
  tick(now: number): Hello[] {
    switch (this.#state) {
      case "probing":
        return this.#probe(now);
      case "up":
        return this.#watch(now);
      case "dead":
        return [];
    }
  }

  #probe(now: number): Hello[] {
    if (now - this.#since >= PROBING_LIMIT_MS) {
      this.#state = "dead";
      return [];
    }
    if (now < this.#nextHello) return [];
    this.#nextHello = now + PROBING_EVERY_MS;
    return [this.#small(now)];
  }

  #watch(now: number): Hello[] {
    const oldest = this.#unanswered[0];
    if (oldest && now - oldest.at >= this.#patience(DEAD_AFTER_MS, 4) && this.#unanswered.length >= LEAST_UNANSWERED) {
      this.#state = "dead";
      return [];
    }
    if (now >= this.#suspectAt) return [this.#small(now)];
    if (now < this.#nextHello) return [];
    this.#nextHello = now + (this.#isBusy(now) ? BUSY_EVERY_MS : IDLE_EVERY_MS);
    const large = this.#probeSize(now);
    return [this.#small(now), ...(large ? [large] : [])];
  }

  /** Large hellos go beside the others: that they are lost says nothing of the path's life. */
  #probeSize(now: number): Hello | undefined {
    if (this.#large && now - this.#large.at >= this.#patience(SIZE_ANSWER_MS, 2)) {
      this.#large = undefined;
      this.#largeLost++;
      this.#nextLarge = now;
      if (this.#largeLost >= SIZE_TRIES) {
        this.#passes = LIMITS.datagramFloorBytes;
        this.#largeLost = 0;
        this.#nextLarge = now + SIZE_RETRY_MS;
      }
    }
    const isKnown = this.#passes >= LARGE_BYTES && this.#largeLost === 0;
    if (this.#large || now < this.#nextLarge || (isKnown && !this.#isBusy(now))) return undefined;
    this.#large = this.#hello(LARGE_BYTES, now);
    return this.#large;
  }

  #small(now: number): Sent {
    const hello = this.#hello(SMALL_BYTES, now);
    this.#unanswered.push(hello);
    // The oldest stays: it says since when there was no answer.
    if (this.#unanswered.length > KEPT_HELLOS) this.#unanswered.splice(1, 1);
    return hello;
  }

  #hello(bytes: number, now: number): Sent {
    return { nonce: this.#nonce++, at: now, bytes };
  }

  /** When the next hello is due because those before were not answered. */
  get #suspectAt(): number {
    const [oldest] = this.#unanswered;
    if (!oldest) return Number.POSITIVE_INFINITY;
    return Math.max(oldest.at + this.#patience(SUSPECT_AFTER_MS, 1.5), this.#unanswered.at(-1)!.at + SUSPECT_EVERY_MS);
  }

  /** A path with a long round trip gets the time that it needs. */
  #patience(leastMs: number, roundTrips: number): number {
    return Math.max(leastMs, roundTrips * (this.#rttMs ?? 0));
  }

  #isBusy(now: number): boolean {
    return now - this.#lastSent < BUSY_FOR_MS;
  }
}

import { LIMITS } from "@isthmus/protocol";

/** A datagram whose parts are not all there after this time is dropped, as the network itself would. */
const PARTS_LIFETIME_MS = 2000;
/** Bytes of unfinished datagrams of one link; the oldest are dropped above it. */
const MOST_BYTES = 1024 * 1024;
/** Unfinished datagrams of one link. */
const MOST_MESSAGES = 256;

export interface Part {
  message: number;
  index: number;
  count: number;
}

interface Unfinished {
  parts: (Buffer | undefined)[];
  missing: number;
  bytes: number;
  since: number;
}

/** Puts split datagrams together again: by us, since many NATs drop IP fragments. Bounded in bytes and time. */
export class Reassembly {
  readonly #unfinished = new Map<string, Unfinished>();
  readonly #dropped: () => void;
  #bytes = 0;

  /** @param dropped called for each datagram that is given up */
  constructor(dropped: () => void) {
    this.#dropped = dropped;
  }

  /**
   * @param flow which messages of one number belong together
   * @returns the whole datagram when this was its last missing part
   */
  take(flow: string, part: Part, payload: Buffer, now: number): Buffer | undefined {
    this.expire(now);
    const key = `${flow} ${part.message}`;
    let entry = this.#unfinished.get(key);
    if (entry && entry.parts.length !== part.count) {
      this.#drop(key, entry);
      entry = undefined;
    }
    if (!entry) {
      entry = { parts: new Array<Buffer | undefined>(part.count), missing: part.count, bytes: 0, since: now };
      this.#unfinished.set(key, entry);
    }
    if (entry.parts[part.index]) return undefined;
    entry.parts[part.index] = payload;
    entry.missing--;
    entry.bytes += payload.length;
    this.#bytes += payload.length;
    if (entry.bytes > LIMITS.applicationDatagramBytes) {
      this.#drop(key, entry);
      return undefined;
    }
    if (entry.missing === 0) {
      this.#unfinished.delete(key);
      this.#bytes -= entry.bytes;
      return Buffer.concat(entry.parts as Buffer[]);
    }
    this.#shrink();
    return undefined;
  }

  /** Drops what is too old. */
  expire(now: number): void {
    for (const [key, entry] of this.#unfinished) {
      if (now - entry.since < PARTS_LIFETIME_MS) return;
      this.#drop(key, entry);
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  #shrink(): void {
    for (const [key, entry] of this.#unfinished) {
      if (this.#bytes <= MOST_BYTES && this.#unfinished.size <= MOST_MESSAGES) return;
      this.#drop(key, entry);
    }
  }

  #drop(key: string, entry: Unfinished): void {
    this.#unfinished.delete(key);
    this.#bytes -= entry.bytes;
    this.#dropped();
  }
}

import { LIMITS } from "@isthmus/protocol";

/** Datagrams that wait for a path, or for the meaning of their flow; above the limits the oldest are dropped. */
export class EarlyQueue<T extends { payload: Uint8Array }> {
  readonly #lifetimeMs: number;
  readonly #dropped: () => void;
  #waiting: { item: T; at: number }[] = [];
  #bytes = 0;

  /** @param dropped called for each datagram that the limits or its age end */
  constructor(lifetimeMs: number, dropped: () => void) {
    this.#lifetimeMs = lifetimeMs;
    this.#dropped = dropped;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** When {@link expire} has something to do; nothing when nothing waits. */
  get expiresAt(): number | undefined {
    const [oldest] = this.#waiting;
    return oldest && oldest.at + this.#lifetimeMs;
  }

  put(item: T, now: number): void {
    this.expire(now);
    this.#waiting.push({ item, at: now });
    this.#bytes += item.payload.length;
    while (
      this.#waiting.length > LIMITS.earlyDatagrams ||
      (this.#bytes > LIMITS.earlyDatagramBytes && this.#waiting.length > 1)
    ) {
      this.#shift();
    }
  }

  /** Takes out what `which` names, oldest first; the rest goes on waiting. */
  take(now: number, which: (item: T) => boolean = () => true): T[] {
    this.expire(now);
    const taken = this.#waiting.filter(({ item }) => which(item));
    this.#waiting = this.#waiting.filter(({ item }) => !which(item));
    this.#bytes = this.#waiting.reduce((sum, { item }) => sum + item.payload.length, 0);
    return taken.map(({ item }) => item);
  }

  /** Drops what has waited too long. */
  expire(now: number): void {
    while (this.#waiting.length > 0 && now - this.#waiting[0]!.at >= this.#lifetimeMs) this.#shift();
  }

  #shift(): void {
    this.#dropped();
    this.#bytes -= this.#waiting.shift()!.item.payload.length;
  }
}

import { LIMITS } from "@isthmus/protocol";

/** Datagrams that wait for a path, or for the meaning of their flow; above the limits the oldest are dropped. */
export class EarlyQueue<T extends { payload: Uint8Array }> {
  readonly #lifetimeMs: number;
  #waiting: { item: T; at: number }[] = [];
  #bytes = 0;
  /** Datagrams dropped by the limits or by age, for a counter. */
  dropped = 0;

  constructor(lifetimeMs: number) {
    this.#lifetimeMs = lifetimeMs;
  }

  get length(): number {
    return this.#waiting.length;
  }

  put(item: T, now: number): void {
    this.#expire(now);
    this.#waiting.push({ item, at: now });
    this.#bytes += item.payload.length;
    while (
      this.#waiting.length > LIMITS.earlyDatagrams ||
      (this.#bytes > LIMITS.earlyDatagramBytes && this.#waiting.length > 1)
    ) {
      this.#shift();
      this.dropped++;
    }
  }

  /** Takes out what `which` names, oldest first; the rest goes on waiting. */
  take(now: number, which: (item: T) => boolean = () => true): T[] {
    this.#expire(now);
    const taken = this.#waiting.filter(({ item }) => which(item));
    this.#waiting = this.#waiting.filter(({ item }) => !which(item));
    this.#bytes = this.#waiting.reduce((sum, { item }) => sum + item.payload.length, 0);
    return taken.map(({ item }) => item);
  }

  #expire(now: number): void {
    while (this.#waiting.length > 0 && now - this.#waiting[0]!.at >= this.#lifetimeMs) {
      this.#shift();
      this.dropped++;
    }
  }

  #shift(): void {
    this.#bytes -= this.#waiting.shift()!.item.payload.length;
  }
}

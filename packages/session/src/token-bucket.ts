/** How often something may happen: `perSecond` in the long run, `burst` at once. */
export interface Rate {
  perSecond: number;
  burst: number;
}

/**
 * Token buckets by key (an address, a user). A full bucket is not kept, so that memory follows who is active; above
 * `keys` the longest untouched is forgotten.
 */
export class TokenBuckets {
  readonly #rate: Rate;
  readonly #keys: number;
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  constructor(rate: Rate, keys = 100_000) {
    this.#rate = rate;
    this.#keys = keys;
  }

  /** Takes a token. @returns 0 if there was one, else the milliseconds until there is one */
  take(key: string, now: number): number {
    const { perSecond, burst } = this.#rate;
    const old = this.#buckets.get(key);
    // A clock that was set back must not empty anybody's bucket.
    const elapsedMs = old ? Math.max(0, now - old.at) : 0;
    const tokens = old ? Math.min(burst, old.tokens + (elapsedMs * perSecond) / 1000) : burst;
    // Re-inserting keeps the map in order of last use.
    this.#buckets.delete(key);
    this.#buckets.set(key, { tokens: tokens < 1 ? tokens : tokens - 1, at: now });
    this.#evict(now);
    return tokens < 1 ? Math.ceil(((1 - tokens) * 1000) / perSecond) : 0;
  }

  get size(): number {
    return this.#buckets.size;
  }

  #evict(now: number): void {
    const refillMs = (this.#rate.burst * 1000) / this.#rate.perSecond;
    for (const [key, { at }] of this.#buckets) {
      if (this.#buckets.size <= this.#keys && now - at < refillMs) return;
      this.#buckets.delete(key);
    }
  }
}

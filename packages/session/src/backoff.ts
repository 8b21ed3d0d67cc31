/** Waiting times between attempts to log in: full jitter under a ceiling that doubles. */
export interface BackoffOptions {
  /** First ceiling, milliseconds. */
  firstMs: number;
  /** Highest ceiling while the outage is young. */
  mostMs: number;
  /** After an outage of this length the ceiling may rise to `longMs`. */
  longAfterMs: number;
  longMs: number;
}

/** Towards an ISB: everybody may come back at once, so spread over 4 s; sessions are back within 5 s of its return. */
export const BACKOFF_TO_ISB: BackoffOptions = { firstMs: 200, mostMs: 4000, longAfterMs: 120_000, longMs: 30_000 };

/** Towards an IST: subscriptions must work again within 2 s of its return. */
export const BACKOFF_TO_IST: BackoffOptions = { firstMs: 200, mostMs: 1000, longAfterMs: 120_000, longMs: 30_000 };

export class Backoff {
  readonly #options: BackoffOptions;
  readonly #random: () => number;
  #ceilingMs: number;
  #outageSince: number | undefined;

  constructor(options: BackoffOptions, random: () => number = Math.random) {
    this.#options = options;
    this.#random = random;
    this.#ceilingMs = options.firstMs;
  }

  /** Milliseconds until the next attempt. @param hopeless the server refused for a reason that will not go away soon */
  next(now: number, hopeless = false): number {
    this.#outageSince ??= now;
    const { mostMs, longAfterMs, longMs } = this.#options;
    const limit = hopeless || now - this.#outageSince >= longAfterMs ? longMs : mostMs;
    const ceiling = hopeless ? limit : Math.min(this.#ceilingMs, limit);
    this.#ceilingMs = Math.min(this.#ceilingMs * 2, limit);
    return Math.floor(this.#random() * ceiling);
  }

  reset(): void {
    this.#ceilingMs = this.#options.firstMs;
    this.#outageSince = undefined;
  }
}

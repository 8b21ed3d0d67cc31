/** What any gateway takes at a time: the least that one of them lets wait at its door is 5. */
const FIRST_LIMIT = 4;
const LEAST_LIMIT = 2;
const HIGHEST_LIMIT = 64;
/** A connection that takes longer was turned away at first: its SYN was sent again after a second. */
const TURNED_AWAY_MS = 900;

/**
 * How many calls may be under way; the others wait in order. Small gateways turn connections away that come too many at
 * a time, others take them all: the limit grows while calls wait, and never again beyond where it was too high.
 */
export class CallLimit {
  #limit = FIRST_LIMIT;
  #ceiling = HIGHEST_LIMIT;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  get limit(): number {
    return this.#limit;
  }

  async run<T>(act: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#limit) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
    try {
      return await act();
    } finally {
      // The place goes to the next in turn, unless there are too many places.
      if (this.#running > this.#limit || this.#waiting.length === 0) this.#running--;
      else this.#waiting.shift()?.();
    }
  }

  /** A connection was made, after that time. */
  connected(afterMs: number): void {
    if (afterMs >= TURNED_AWAY_MS) {
      this.#limit = Math.max(LEAST_LIMIT, Math.floor(this.#limit / 2));
      this.#ceiling = this.#limit;
    } else if (this.#waiting.length > 0 && this.#limit < this.#ceiling) {
      this.#limit++;
      this.#running++;
      this.#waiting.shift()?.();
    }
  }
}

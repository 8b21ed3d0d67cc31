/** Attempts in a row that failed ... */
const FAILURES = 2;
/** ... after which this way is left out, for so long at first, and doubling. */
const AVOID_FIRST_MS = 30_000;
const AVOID_MOST_MS = 600_000;

/** Whether a way to meet is left out for a while, since it came to nothing more than once. */
export class Avoidance {
  #failures = 0;
  #avoidMs = AVOID_FIRST_MS;
  #until = Number.NEGATIVE_INFINITY;

  isOn(now: number): boolean {
    return now < this.#until;
  }

  /** It failed the last time. */
  isDoubted(now: number): boolean {
    return this.#failures > 0 || this.isOn(now);
  }

  failed(now: number): void {
    // What was under way when the way was given up says nothing new.
    if (this.isOn(now) || ++this.#failures < FAILURES) return;
    this.#failures = 0;
    this.#until = now + this.#avoidMs;
    this.#avoidMs = Math.min(this.#avoidMs * 2, AVOID_MOST_MS);
  }

  /** It works, or everything is new. */
  end(): void {
    this.#failures = 0;
    this.#avoidMs = AVOID_FIRST_MS;
    this.#until = Number.NEGATIVE_INFINITY;
  }
}

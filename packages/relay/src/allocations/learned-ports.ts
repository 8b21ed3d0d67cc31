/** Allocations in a row whose legs did not meet at ports that were learned ... */
const MISSED_ALLOCATIONS = 3;
/** ... after which no allocation gets cells that learn, for so long. */
const OFF_MS = 600_000;

/**
 * Whether legs reach ports that were learned, which can be any: a firewall before the IST may pass those of its cells
 * alone. Then every allocation would find out for itself, by connections that take a second longer. Pure.
 */
export class LearnedPorts {
  readonly #missed = new Set<string>();
  #offUntil = Number.NEGATIVE_INFINITY;

  isOff(now: number): boolean {
    return now < this.#offUntil;
  }

  /** Legs of the allocation met. */
  met(): void {
    this.#missed.clear();
    this.#offUntil = Number.NEGATIVE_INFINITY;
  }

  /**
   * The peer was told where a leg waits, and did not come.
   * @returns whether that was one too many
   */
  missed(allocation: string, now: number): boolean {
    this.#missed.add(allocation);
    if (this.isOff(now) || this.#missed.size < MISSED_ALLOCATIONS) return false;
    this.#missed.clear();
    this.#offUntil = now + OFF_MS;
    return true;
  }
}

/** Unused rate that may be made up for at once. */
const BURST_MS = 100;

/** What keeps an allocation to so many bytes per second. */
export interface Rate {
  /** @param bytesPerSecond 0: no limit. @param mostBytes of one splice; kept by whoever moves it */
  set(bytesPerSecond: number, mostBytes: number): void;
  /**
   * Whether bytes may pass now; they are paid for then.
   * @param urgent takes up to a burst ahead of others: what cannot wait, because it would be dropped
   */
  spend(bytes: number, urgent: boolean): boolean;
  /** Milliseconds until there is credit. */
  waitMs(): number;
}

/**
 * What may pass at so many bytes per second. Whoever comes while there is credit may take more than there is, since a
 * chunk or a datagram is never split; all wait until the debt is paid.
 */
export class RateBucket implements Rate {
  readonly #now: () => number;
  #bytesPerSecond: number;
  #credit: number;
  #at: number;

  /** @param bytesPerSecond 0: no limit */
  constructor(bytesPerSecond: number, now = () => performance.now()) {
    this.#now = now;
    this.#bytesPerSecond = bytesPerSecond;
    this.#credit = this.#most;
    this.#at = now();
  }

  set(bytesPerSecond: number): void {
    this.#refill();
    this.#bytesPerSecond = bytesPerSecond;
    this.#credit = Math.min(this.#credit, this.#most);
  }

  spend(bytes: number, urgent: boolean): boolean {
    if (this.#bytesPerSecond === 0) return true;
    this.#refill();
    if (this.#credit <= (urgent ? -this.#most : 0)) return false;
    this.#credit -= bytes;
    return true;
  }

  waitMs(): number {
    this.#refill();
    if (this.#bytesPerSecond === 0 || this.#credit > 0) return 0;
    return ((1 - this.#credit) * 1000) / this.#bytesPerSecond;
  }

  get #most(): number {
    return Math.max(1, (this.#bytesPerSecond * BURST_MS) / 1000);
  }

  #refill(): void {
    const now = this.#now();
    const elapsedMs = Math.max(0, now - this.#at);
    this.#at = now;
    this.#credit = Math.min(this.#most, this.#credit + (elapsedMs * this.#bytesPerSecond) / 1000);
  }
}

/** Unused rate that may be made up for at once. */
const BURST_MS = 100;

/**
 * What may pass at so many bytes per second. Whoever comes while there is credit may take more than there is, since a
 * chunk or a datagram is never split; all wait until the debt is paid. Pure.
 */
export class RateBucket {
  #bytesPerSecond: number;
  #credit: number;
  #at: number;

  /** @param bytesPerSecond 0: no limit */
  constructor(bytesPerSecond: number, now: number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#credit = this.#most;
    this.#at = now;
  }

  setRate(bytesPerSecond: number, now: number): void {
    this.#refill(now);
    this.#bytesPerSecond = bytesPerSecond;
    this.#credit = Math.min(this.#credit, this.#most);
  }

  /** @param urgent takes up to a burst ahead of others: what cannot wait, because it would be dropped */
  spend(bytes: number, now: number, urgent = false): boolean {
    if (this.#bytesPerSecond === 0) return true;
    this.#refill(now);
    if (this.#credit <= (urgent ? -this.#most : 0)) return false;
    this.#credit -= bytes;
    return true;
  }

  /** Milliseconds until there is credit. */
  waitMs(now: number): number {
    this.#refill(now);
    if (this.#bytesPerSecond === 0 || this.#credit > 0) return 0;
    return ((1 - this.#credit) * 1000) / this.#bytesPerSecond;
  }

  get #most(): number {
    return Math.max(1, (this.#bytesPerSecond * BURST_MS) / 1000);
  }

  #refill(now: number): void {
    const elapsedMs = Math.max(0, now - this.#at);
    this.#at = now;
    this.#credit = Math.min(this.#most, this.#credit + (elapsedMs * this.#bytesPerSecond) / 1000);
  }
}

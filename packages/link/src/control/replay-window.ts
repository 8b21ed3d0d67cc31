/**
 * Which counters of one direction were used (RFC 4303 section 3.4.3): the newest `size` one by one, older ones as used.
 * Two steps, so that a forged message cannot move the window: {@link isNew} before the message is opened,
 * {@link take} after.
 */
export class ReplayWindow {
  readonly #size: number;
  readonly #bits: Uint32Array;
  #newest = -1;

  /** @param size a multiple of 32 */
  constructor(size = 1024) {
    this.#size = size;
    this.#bits = new Uint32Array(size / 32);
  }

  isNew(counter: number): boolean {
    if (counter > this.#newest) return true;
    if (counter <= this.#newest - this.#size) return false;
    return (this.#bits[this.#word(counter)]! & (1 << (counter & 31))) === 0;
  }

  take(counter: number): void {
    if (counter > this.#newest) {
      const steps = Math.min(counter - this.#newest, this.#size);
      for (let step = 0; step < steps; step++) {
        const cleared = counter - step;
        this.#bits[this.#word(cleared)]! &= ~(1 << (cleared & 31));
      }
      this.#newest = counter;
    }
    this.#bits[this.#word(counter)]! |= 1 << (counter & 31);
  }

  #word(counter: number): number {
    return Math.floor((counter % this.#size) / 32);
  }
}

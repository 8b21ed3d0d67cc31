/**
 * How long joins of one link take, by RFC 6298's estimate of a round trip: on hosts that are busy with other things that
 * is far more than the network's. Pure.
 */
export class JoinTime {
  #smoothedMs: number | undefined;
  #deviationMs = 0;

  /** An attempt was joined so long after its dial. */
  took(ms: number): void {
    if (this.#smoothedMs === undefined) {
      this.#smoothedMs = ms;
      this.#deviationMs = ms / 2;
      return;
    }
    this.#deviationMs += (Math.abs(this.#smoothedMs - ms) - this.#deviationMs) / 4;
    this.#smoothedMs += (ms - this.#smoothedMs) / 8;
  }

  /** By when an attempt that succeeds is joined as a rule; 0 while nothing is known. */
  get mostMs(): number {
    return (this.#smoothedMs ?? 0) + 4 * this.#deviationMs;
  }
}

/** Ids that far behind the newest are refused: daemons use them in order. */
const WINDOW = 4096;
/** Generations that are remembered: crossed handshakes and the rekey every 12 h make a few. */
const MOST_GENERATIONS = 4;

/** The ids of one daemon's opens in one generation: for each the highest attempt that met its peer, and 1; else 0. */
class OpenIds {
  readonly #attempts = new Uint16Array(WINDOW);
  /** The newest id, counted without the role bit. */
  #newest = -1;

  /** Whether a leg of this open may still meet its peer. */
  mayPair(index: number, attempt: number): boolean {
    if (index > this.#newest) return true;
    return index > this.#newest - WINDOW && attempt >= this.#attempts[index % WINDOW]!;
  }

  paired(index: number, attempt: number): void {
    if (index > this.#newest) {
      const from = Math.max(this.#newest + 1, index - WINDOW + 1);
      for (let skipped = from; skipped < index; skipped++) this.#attempts[skipped % WINDOW] = 0;
      this.#newest = index;
    }
    this.#attempts[index % WINDOW] = attempt + 1;
  }
}

/**
 * The opens of an allocation whose legs met at the stream endpoint: who overheard a leg's header must not be able to use
 * it again, neither for a leg nor to move bytes of his own through the IST. Bounded: 64 KiB. Pure.
 */
export class PairedOpens {
  readonly #generations = new Map<string, [OpenIds, OpenIds]>();

  mayPair(generation: string, openId: number, attempt: number): boolean {
    const ids = this.#generations.get(generation)?.[openId % 2];
    return ids === undefined || ids.mayPair(Math.floor(openId / 2), attempt);
  }

  paired(generation: string, openId: number, attempt: number): void {
    const known = this.#generations.get(generation) ?? [new OpenIds(), new OpenIds()];
    this.#generations.delete(generation);
    this.#generations.set(generation, known);
    if (this.#generations.size > MOST_GENERATIONS) this.#generations.delete(this.#generations.keys().next().value!);
    known[openId % 2]!.paired(Math.floor(openId / 2), attempt);
  }
}

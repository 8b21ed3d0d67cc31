/** Called with the port of a leg that waits at the IST, or with nothing where this side cannot go there. */
export type OnHalf = (port: number | undefined) => void;

/**
 * What the IST says of legs of the peer that wait at pure cells, and this side's legs that are to meet them. The word may
 * come before the open that it is for, which takes another way. Pure.
 */
export class HalfPorts {
  readonly #freshMs: number;
  readonly #told = new Map<number, { port: number | undefined; at: number }>();
  readonly #awaited = new Map<number, OnHalf>();

  /** @param freshMs how long the IST keeps an unpaired leg */
  constructor(freshMs: number) {
    this.#freshMs = freshMs;
  }

  /** The IST's word. */
  tell(cell: number, port: number | undefined, now: number): void {
    const onHalf = this.#awaited.get(cell);
    this.#awaited.delete(cell);
    if (onHalf) onHalf(port);
    else this.#told.set(cell, { port, at: now });
  }

  /** The last word of a cell, if it is fresh and nobody has heard it. */
  take(cell: number, now: number): { port: number | undefined } | undefined {
    const told = this.#told.get(cell);
    this.#told.delete(cell);
    return told && now - told.at < this.#freshMs ? told : undefined;
  }

  /** Calls back with the next word; whoever waited before hears nothing any more. @returns ends the wait */
  wait(cell: number, onHalf: OnHalf): () => void {
    this.#awaited.set(cell, onHalf);
    return () => {
      if (this.#awaited.get(cell) === onHalf) this.#awaited.delete(cell);
    };
  }
}

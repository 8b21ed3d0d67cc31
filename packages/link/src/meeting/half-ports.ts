/** The port of a leg that waits at the IST, or nothing where this side cannot go there. */
export type OnHalf = (port: number | undefined) => void;

/**
 * What the IST says of legs of the peer that wait at pure cells, and this side's legs that are to meet them. The word may
 * come before the open that it is for, which takes another way.
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

  /**
   * Calls back with the next word, or the last one that nobody has heard, later in any case.
   * @returns ends the wait
   */
  next(cell: number, onHalf: OnHalf, now: number): () => void {
    let isOver = false;
    const once: OnHalf = (port) => {
      if (!isOver) onHalf(port);
    };
    const told = this.#told.get(cell);
    this.#told.delete(cell);
    if (told && now - told.at < this.#freshMs) setImmediate(() => once(told.port));
    else this.#awaited.set(cell, once);
    return () => {
      isOver = true;
      if (this.#awaited.get(cell) === once) this.#awaited.delete(cell);
    };
  }
}

import { LIMITS } from "@isthmus/protocol";

/**
 * Which ids of one peer and generation were used: the newest {@link LIMITS.openWindow} one by one, all older ones as
 * used. Ids count up in steps of two (the lowest bit is the Noise role), so positions are halved ids.
 */
export class IdWindow {
  readonly #size: number;
  readonly #seen = new Set<number>();
  #newest = -1;

  constructor(size: number = LIMITS.openWindow) {
    this.#size = size;
  }

  /** @returns whether the id is new; from now on it is used */
  take(id: number): boolean {
    const position = Math.floor(id / 2);
    if (position <= this.#newest - this.#size || this.#seen.has(position)) return false;
    if (position > this.#newest) {
      const expired = position - this.#size;
      if (expired >= this.#newest) this.#seen.clear();
      else for (let old = this.#newest - this.#size + 1; old <= expired; old++) this.#seen.delete(old);
      this.#newest = position;
    }
    this.#seen.add(position);
    return true;
  }
}

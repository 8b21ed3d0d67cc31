/** Connections that are nothing yet: neither a session nor a leg with a peer. Counted in all and by source. Pure. */
export class PendingConnections {
  readonly #most: number;
  readonly #mostPerSource: number;
  readonly #bySource = new Map<string, number>();
  #size = 0;

  constructor(most: number, mostPerSource: number) {
    this.#most = most;
    this.#mostPerSource = mostPerSource;
  }

  get size(): number {
    return this.#size;
  }

  /** @returns false when there are too many; then nothing was counted */
  enter(source: string): boolean {
    const count = this.#bySource.get(source) ?? 0;
    if (this.#size >= this.#most || count >= this.#mostPerSource) return false;
    this.#bySource.set(source, count + 1);
    this.#size++;
    return true;
  }

  leave(source: string): void {
    const count = this.#bySource.get(source)!;
    if (count === 1) this.#bySource.delete(source);
    else this.#bySource.set(source, count - 1);
    this.#size--;
  }
}

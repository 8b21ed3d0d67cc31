import { LIMITS, sourcePrefix } from "@isthmus/protocol";

/**
 * From where legs of one side are expected: the address of its session, and further ones that showed the side's token at
 * the stream endpoint (NAT pools, the other IP version). Pure.
 */
export class SideSources {
  #session: string | undefined;
  readonly #proved = new Set<string>();

  /** The session stands there now. @returns whether anything changed */
  setSession(address: string): boolean {
    const prefix = sourcePrefix(address);
    if (prefix === this.#session) return false;
    this.#session = prefix;
    this.#proved.delete(prefix);
    this.#trim();
    return true;
  }

  /** A connection with the side's token came from there. @returns whether anything changed */
  prove(address: string): boolean {
    const prefix = sourcePrefix(address);
    if (prefix === this.#session) return false;
    const isNew = !this.#proved.has(prefix);
    // Re-inserting keeps them in order of last use: the oldest goes first.
    this.#proved.delete(prefix);
    this.#proved.add(prefix);
    this.#trim();
    return isNew;
  }

  clear(): void {
    this.#session = undefined;
    this.#proved.clear();
  }

  get prefixes(): string[] {
    return this.#session === undefined ? [...this.#proved] : [this.#session, ...this.#proved];
  }

  #trim(): void {
    const most = LIMITS.sourcesPerSide - (this.#session === undefined ? 0 : 1);
    for (const prefix of this.#proved) {
      if (this.#proved.size <= most) return;
      this.#proved.delete(prefix);
    }
  }
}

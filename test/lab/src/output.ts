/** Characters kept of what a program wrote: enough for any test, a bound for a program that runs away. */
const KEPT = 1 << 20;

/** What a program has written so far. Positions count every character ever written, also those no longer kept. */
export class Output {
  #text = "";
  #dropped = 0;

  append(text: string): void {
    this.#text += text;
    // Cut seldom, not at each chunk.
    if (this.#text.length > 2 * KEPT) {
      const cut = this.#text.length - KEPT;
      this.#text = this.#text.slice(cut);
      this.#dropped += cut;
    }
  }

  /** Where the next character will be. */
  get position(): number {
    return this.#dropped + this.#text.length;
  }

  since(position: number): string {
    return this.#text.slice(Math.max(0, position - this.#dropped));
  }

  get text(): string {
    return this.#text;
  }

  /** For error messages. */
  lastLines(count = 20): string {
    return this.#text.trimEnd().split("\n").slice(-count).join("\n");
  }
}

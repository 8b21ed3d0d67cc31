/** Log lines kept in memory for `isthmus logs`. */
const KEPT_LINES = 2000;

/** The newest log lines, and whoever follows them. */
export class LogRing {
  readonly #lines: string[] = [];
  readonly #followers = new Set<(line: string) => void>();

  readonly write = (line: string): void => {
    this.#lines.push(line);
    if (this.#lines.length > KEPT_LINES) this.#lines.shift();
    for (const follower of this.#followers) follower(line);
  };

  newest(count: number): string[] {
    return count === 0 ? [] : this.#lines.slice(-count);
  }

  /** @returns what ends the following */
  follow(follower: (line: string) => void): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }
}

/** Answers are kept this long: a client that lost its session repeats a request well before. */
const KEPT_MS = 60_000;
/** More are never kept: the oldest go first. */
const MOST_ANSWERS = 100_000;

/** The newest answers to subscribes, so that one sent again after a reconnect is not carried out twice. */
export class Answers<A> {
  readonly #answers = new Map<string, { at: number; answer: A }>();

  get size(): number {
    return this.#answers.size;
  }

  get(request: string, now: number): A | undefined {
    const known = this.#answers.get(request);
    return known && now - known.at < KEPT_MS ? known.answer : undefined;
  }

  keep(request: string, answer: A, now: number): void {
    // Re-inserting keeps the map in order of age.
    this.#answers.delete(request);
    this.#answers.set(request, { at: now, answer });
    if (this.#answers.size > MOST_ANSWERS) this.#answers.delete(this.#answers.keys().next().value!);
  }

  forget(request: string): void {
    this.#answers.delete(request);
  }

  sweep(now: number): void {
    for (const [request, { at }] of this.#answers) {
      if (now - at < KEPT_MS) return;
      this.#answers.delete(request);
    }
  }
}

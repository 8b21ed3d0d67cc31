/** Answers are kept this long, so that a request repeated after a reconnect is not carried out twice. */
const KEPT_MS = 60_000;
/** More than this many answers are never kept: the oldest go first. */
const MOST_ANSWERS = 200_000;

/**
 * The answers of a server's newest requests, by who asked and the request's id. A request that is still being carried
 * out is remembered for as long as that takes; its answer is kept from the moment it is there.
 */
export class AnswerMemory {
  readonly #running = new Map<string, Promise<unknown>>();
  readonly #answers = new Map<string, { at: number; answer: unknown }>();

  /**
   * The remembered answer (or the promise of it), else what `run` gives, which is remembered. A failure is an answer.
   * @param clock milliseconds
   */
  answer(owner: string, requestId: string, clock: () => number, run: () => unknown): unknown {
    const key = `${owner} ${requestId}`;
    const running = this.#running.get(key);
    if (running) return running;
    const known = this.#answers.get(key);
    if (known && clock() - known.at < KEPT_MS) return known.answer;
    let answer: unknown;
    try {
      answer = run();
    } catch (error) {
      answer = Promise.reject(error);
    }
    if (answer instanceof Promise) {
      this.#running.set(key, answer);
      const settled = (): void => {
        this.#running.delete(key);
        this.#keep(key, clock(), answer);
      };
      answer.then(settled, settled);
    } else this.#keep(key, clock(), answer);
    return answer;
  }

  #keep(key: string, at: number, answer: unknown): void {
    // Re-inserting keeps the map in order of age.
    this.#answers.delete(key);
    this.#answers.set(key, { at, answer });
    if (this.#answers.size > MOST_ANSWERS) this.#answers.delete(this.#answers.keys().next().value!);
  }

  sweep(now: number): void {
    for (const [key, { at }] of this.#answers) {
      if (now - at < KEPT_MS) return;
      this.#answers.delete(key);
    }
  }

  /** Answers kept and requests being carried out. */
  get size(): number {
    return this.#answers.size + this.#running.size;
  }
}

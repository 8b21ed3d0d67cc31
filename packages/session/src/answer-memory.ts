/** Answers are kept this long, so that a request repeated after a reconnect is not carried out twice. */
const KEPT_MS = 60_000;
/** More than this many answers are never kept: the oldest go first. */
const MOST_ANSWERS = 200_000;

/** The answers of a server's newest requests, by who asked and the request's id. */
export class AnswerMemory {
  readonly #answers = new Map<string, { at: number; answer: unknown }>();

  /** The remembered answer (or the promise of it), else what `run` gives, which is remembered. */
  answer(owner: string, requestId: string, now: number, run: () => unknown): unknown {
    const key = `${owner} ${requestId}`;
    const known = this.#answers.get(key);
    if (known && now - known.at < KEPT_MS) return known.answer;
    let answer: unknown;
    try {
      answer = run();
    } catch (error) {
      answer = Promise.reject(error);
      (answer as Promise<never>).catch(() => undefined);
    }
    this.#answers.set(key, { at: now, answer });
    if (this.#answers.size > MOST_ANSWERS) this.#answers.delete(this.#answers.keys().next().value!);
    return answer;
  }

  sweep(now: number): void {
    for (const [key, { at }] of this.#answers) {
      if (now - at < KEPT_MS) return;
      this.#answers.delete(key);
    }
  }

  get size(): number {
    return this.#answers.size;
  }
}

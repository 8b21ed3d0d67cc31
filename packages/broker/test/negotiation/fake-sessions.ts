import { IsthmusError } from "@isthmus/protocol";
import type fc from "fast-check";

type Answer = (body: never) => unknown;

/**
 * A session whose messages arrive when a scheduler says so: requests at the peer, in the order in which they were sent,
 * and answers back in any order. What is under way when the session ends is lost, as on a real one.
 */
export class FakeSession {
  readonly key: string;
  readonly boot: string;
  readonly context: { user: string; declared: boolean; reachable: string | undefined };
  readonly #scheduler: fc.Scheduler;
  readonly #peer: Record<string, Answer>;
  readonly #pending = new Set<(error: IsthmusError) => void>();
  readonly #underWay: (() => void)[] = [];
  isUp = true;
  onEvent: (body: Record<string, unknown>, type: string) => void = () => undefined;

  constructor(
    scheduler: fc.Scheduler,
    options: { key: string; user: string; boot: string; peer: Record<string, Answer> },
  ) {
    this.#scheduler = scheduler;
    this.key = options.key;
    this.boot = options.boot;
    this.context = { user: options.user, declared: true, reachable: undefined };
    this.#peer = options.peer;
  }

  request(type: string, body: unknown): Promise<unknown> {
    if (!this.isUp) return Promise.reject(new IsthmusError("disconnected"));
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.add(reject);
    this.#underWay.push(() => {
      let answer: () => void;
      try {
        const reply = this.#peer[type]!(body as never);
        answer = () => resolve(reply);
      } catch (error) {
        answer = () => reject(error);
      }
      void this.#scheduler.schedule(Promise.resolve(), `${type} is answered`).then(() => {
        if (this.isUp) answer();
      });
    });
    void this.#scheduler.schedule(Promise.resolve(), "a message arrives").then(() => {
      const arrive = this.#underWay.shift();
      if (this.isUp) arrive?.();
    });
    return promise.finally(() => this.#pending.delete(reject));
  }

  event(type: string, body: Record<string, unknown>): void {
    if (this.isUp) this.onEvent(body, type);
  }

  end(): void {
    this.isUp = false;
    for (const reject of this.#pending) reject(new IsthmusError("disconnected"));
  }
}

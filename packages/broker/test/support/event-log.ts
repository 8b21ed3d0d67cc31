const DEADLINE_MS = 10_000;

/** What happened, in order; a test waits for what it needs, whether it comes later or was there already. */
export class EventLog<T> {
  readonly all: T[] = [];
  #next = 0;
  #arrived = Promise.withResolvers<void>();

  push(item: T): void {
    this.all.push(item);
    const { resolve } = this.#arrived;
    this.#arrived = Promise.withResolvers();
    resolve();
  }

  /** The first item behind the one returned last that fits. @throws when none came in time */
  async next(fits: (item: T) => boolean = () => true, deadlineMs = DEADLINE_MS): Promise<T> {
    const deadline = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => deadline.reject(new Error(`nothing fitting came; there is ${JSON.stringify(this.all.slice(this.#next))}`)),
      deadlineMs,
    );
    try {
      for (;;) {
        const index = this.all.findIndex((item, at) => at >= this.#next && fits(item));
        if (index >= 0) {
          this.#next = index + 1;
          return this.all[index]!;
        }
        await Promise.race([this.#arrived.promise, deadline.promise]);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

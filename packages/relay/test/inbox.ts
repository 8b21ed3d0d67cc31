/** What arrived, to be waited for in its order. */
export class Inbox<T> {
  readonly #items: T[] = [];
  #onItem = Promise.withResolvers<void>();

  readonly add = (item: T): void => {
    this.#items.push(item);
    this.#onItem.resolve();
    this.#onItem = Promise.withResolvers();
  };

  /** The next one that fits; those before it are skipped. @throws when none comes in time */
  async next(fits: (item: T) => boolean = () => true, deadlineMs = 10_000): Promise<T> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new Error("nothing that fits arrived in time")), deadlineMs);
    try {
      for (;;) {
        const item = this.#items.shift();
        if (item === undefined) await Promise.race([this.#onItem.promise, late.promise]);
        else if (fits(item)) return item;
      }
    } finally {
      clearTimeout(timer);
      late.promise.catch(() => undefined);
    }
  }

  get size(): number {
    return this.#items.length;
  }
}

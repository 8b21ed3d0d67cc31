import { IsthmusError } from "@isthmus/protocol";
import type { Entry, Health, ScanOptions, Store, StoreRecord, Unwatch, Watcher } from "@isthmus/store";

/** Which half of a store's work a count is about. */
export type StoreUse = "read" | "write";

/** The same store, with the outcome of each call counted: `ok` or a code. */
export class CountedStore implements Store {
  readonly #store: Store;
  readonly #count: (use: StoreUse, outcome: string) => void;

  constructor(store: Store, count: (use: StoreUse, outcome: string) => void) {
    this.#store = store;
    this.#count = count;
  }

  get(key: string): Promise<Entry | undefined> {
    return this.#observe("read", this.#store.get(key));
  }

  compareAndSet(key: string, expected: number, value: unknown): Promise<number> {
    return this.#observe("write", this.#store.compareAndSet(key, expected, value));
  }

  scan(prefix: string, options?: ScanOptions): Promise<StoreRecord[]> {
    return this.#observe("read", this.#store.scan(prefix, options));
  }

  watch(prefix: string, watcher: Watcher): Promise<Unwatch> {
    return this.#store.watch(prefix, watcher);
  }

  health(): Health {
    return this.#store.health();
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  async #observe<T>(use: StoreUse, result: Promise<T>): Promise<T> {
    try {
      const value = await result;
      this.#count(use, "ok");
      return value;
    } catch (error) {
      this.#count(use, error instanceof IsthmusError ? error.code : "internal");
      throw error;
    }
  }
}

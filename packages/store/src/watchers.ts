import type { Logger } from "@isthmus/service";
import type { Unwatch, Watcher } from "./store.ts";

/** A change as the store keeps it; `json` is undefined for a deletion. */
export interface Change {
  key: string;
  json: string | undefined;
  version: number;
}

/** Who watches what. A watcher that throws harms neither the others nor the writer. */
export class Watchers {
  readonly #watching = new Set<{ prefix: string; watcher: Watcher }>();
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  add(prefix: string, watcher: Watcher): Unwatch {
    const entry = { prefix, watcher };
    this.#watching.add(entry);
    return () => void this.#watching.delete(entry);
  }

  changed({ key, json, version }: Change): void {
    this.#each(
      (prefix) => key.startsWith(prefix),
      // Parsed for each: a value belongs to who receives it.
      (watcher) => watcher.changed(key, json === undefined ? undefined : { value: JSON.parse(json), version }, version),
    );
  }

  resync(): void {
    this.#each(
      () => true,
      (watcher) => watcher.resync(),
    );
  }

  clear(): void {
    this.#watching.clear();
  }

  #each(wanted: (prefix: string) => boolean, tell: (watcher: Watcher) => void): void {
    for (const { prefix, watcher } of this.#watching) {
      if (!wanted(prefix)) continue;
      try {
        tell(watcher);
      } catch (err) {
        this.#logger.error({ err, prefix }, "a watcher of the store failed");
      }
    }
  }
}

import { isDeepStrictEqual } from "node:util";
import type { DirectoryEntry, LocalApiReply } from "@isthmus/protocol";
import type { DirectoryBody, IsbSession } from "./isb-connection.ts";

/** Pages asked for in one go: an ISB that never comes to an end must not fill the memory. */
const MOST_PAGES = 1000;

export type DirectoryEvent = LocalApiReply<"watch">;

/** The ISB's directory as this user sees it: looked up on demand, followed while somebody watches. */
export class Directory {
  readonly #isb: () => IsbSession | undefined;
  readonly #watchers = new Set<(event: DirectoryEvent) => void>();
  readonly #known = new Map<string, DirectoryEntry>();
  /** While a snapshot is under way: what was known before and was not named so far. */
  #unnamed: Set<string> | undefined;

  constructor(isb: () => IsbSession | undefined) {
    this.#isb = isb;
  }

  /** All entries that fit, over as many pages as there are. @throws IsthmusError of the ISB */
  async list(isb: IsbSession, query: { user?: string; service?: string; away: boolean }): Promise<DirectoryEntry[]> {
    const entries: DirectoryEntry[] = [];
    let cursor: string | undefined;
    for (let pages = 0; pages < MOST_PAGES; pages++) {
      const page = await isb.request("list", { ...query, ...(cursor === undefined ? {} : { cursor }) });
      entries.push(...page.entries);
      cursor = page.cursor;
      if (cursor === undefined) break;
    }
    return entries;
  }

  /**
   * First everything that is there, then what changes, over reconnects.
   * @returns what ends it
   */
  watch(watcher: (event: DirectoryEvent) => void): () => void {
    for (const entry of this.#known.values()) watcher({ event: entry.present ? "present" : "away", entry });
    this.#watchers.add(watcher);
    if (this.#watchers.size === 1) this.sessionUp();
    return () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size > 0) return;
      this.#known.clear();
      this.#unnamed = undefined;
      void this.#isb()
        ?.request("unwatch", {})
        .catch(() => undefined);
    };
  }

  /** A new session knows nothing of who watches. */
  sessionUp(): void {
    if (this.#watchers.size > 0)
      void this.#isb()
        ?.request("watch", {})
        .catch(() => undefined);
  }

  /** There is no directory any more. */
  clear(): void {
    this.#unnamed = undefined;
    for (const key of [...this.#known.keys()]) this.#forget(key);
  }

  update({ snapshot, more = false, entries, gone }: DirectoryBody): void {
    // What was on its way when the last watcher left.
    if (this.#watchers.size === 0) return;
    if (snapshot) this.#unnamed = new Set(this.#known.keys());
    for (const entry of gone) this.#forget(keyOf(entry));
    for (const entry of entries) this.#learn(entry);
    if (more || !this.#unnamed) return;
    for (const key of this.#unnamed) this.#forget(key);
    this.#unnamed = undefined;
  }

  #learn(entry: DirectoryEntry): void {
    const key = keyOf(entry);
    this.#unnamed?.delete(key);
    if (isDeepStrictEqual(this.#known.get(key), entry)) return;
    this.#known.set(key, entry);
    this.#tell({ event: entry.present ? "present" : "away", entry });
  }

  #forget(key: string): void {
    const entry = this.#known.get(key);
    if (!entry) return;
    this.#known.delete(key);
    this.#tell({ event: "gone", entry: { service: entry.service, user: entry.user } });
  }

  #tell(event: DirectoryEvent): void {
    for (const watcher of this.#watchers) watcher(event);
  }
}

function keyOf({ service, user }: { service: string; user: string }): string {
  return `${service}@${user}`;
}

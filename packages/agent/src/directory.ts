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

  update({ snapshot, entries, gone }: DirectoryBody): void {
    const listed = new Set(entries.map(keyOf));
    const vanished = snapshot ? [...this.#known.values()].filter((entry) => !listed.has(keyOf(entry))) : gone;
    for (const entry of vanished) {
      if (this.#known.delete(keyOf(entry)))
        this.#tell({ event: "gone", entry: { service: entry.service, user: entry.user } });
    }
    for (const entry of entries) {
      const before = this.#known.get(keyOf(entry));
      if (before && JSON.stringify(before) === JSON.stringify(entry)) continue;
      this.#known.set(keyOf(entry), entry);
      this.#tell({ event: entry.present ? "present" : "away", entry });
    }
  }

  #tell(event: DirectoryEvent): void {
    for (const watcher of this.#watchers) watcher(event);
  }
}

function keyOf({ service, user }: { service: string; user: string }): string {
  return `${service}@${user}`;
}

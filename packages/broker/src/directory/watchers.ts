import { type DirectoryEntry, LIMITS } from "@isthmus/protocol";
import { Groups } from "../groups.ts";
import type { Directory } from "./directory.ts";
import { directoryEntryOf, includes, type Listing } from "./listing.ts";

/** Changes are gathered this long and then told together: a laptop that wakes up changes many services at once. */
const COALESCE_MS = 250;
/**
 * Bytes of a snapshot that are written per turn to one watcher, well below what counts as a slow socket: a directory
 * of 10,000 services would otherwise make every watcher a slow one.
 */
const SNAPSHOT_BYTES_PER_TURN = 128 * 1024;

interface DirectoryEvent {
  snapshot: boolean;
  /** It belongs to a snapshot that goes on. */
  more?: boolean;
  entries: DirectoryEntry[];
  gone: { service: string; user: string }[];
}

/** A session that can be told of the directory. */
export interface WatcherSession {
  /** @returns false when the peer reads too slowly */
  push(type: "directory", body: DirectoryEvent): boolean;
}

interface Watcher {
  readonly session: WatcherSession;
  readonly user: string;
  /** A snapshot is under way: what was sent of it, and what changed meanwhile in that part. */
  snapshot: { begun: boolean; cursor: string; missed: Set<string> } | undefined;
}

/**
 * Who wants to know of changes in the directory. A change costs a look at the users it concerns and those who watch,
 * never at the others.
 */
export class Watchers {
  readonly #directory: Directory;
  readonly #count: (outcome: "sent" | "left-out") => void;
  readonly #watchers = new Map<WatcherSession, Watcher>();
  readonly #byUser = new Groups<Watcher>();
  /** What changed since the newest turn, with what watchers were told of it last. */
  readonly #changed = new Map<string, Listing | undefined>();
  readonly #inSnapshot = new Set<Watcher>();
  #turn: NodeJS.Timeout | undefined;

  constructor(directory: Directory, count: (outcome: "sent" | "left-out") => void) {
    this.#directory = directory;
    this.#count = count;
  }

  get size(): number {
    return this.#watchers.size;
  }

  /** Begins with a snapshot; a session that watches already gets a new one. */
  add(session: WatcherSession, user: string): void {
    let watcher = this.#watchers.get(session);
    if (!watcher) {
      watcher = { session, user, snapshot: undefined };
      this.#watchers.set(session, watcher);
      this.#byUser.add(user, watcher);
    }
    this.#tellPending();
    this.#startSnapshot(watcher);
    this.#sendSnapshot(watcher);
  }

  remove(session: WatcherSession): void {
    const watcher = this.#watchers.get(session);
    if (!watcher) return;
    this.#watchers.delete(session);
    this.#inSnapshot.delete(watcher);
    this.#byUser.remove(watcher.user, watcher);
  }

  /** A listing is other than before. */
  changed(id: string, before: Listing | undefined): void {
    if (this.#watchers.size === 0) return;
    if (!this.#changed.has(id)) this.#changed.set(id, before);
    this.#arm();
  }

  /** A slow session has read everything that was sent to it. */
  drained(session: WatcherSession): void {
    const watcher = this.#watchers.get(session);
    if (!watcher?.snapshot) return;
    this.#tellPending();
    this.#sendSnapshot(watcher);
  }

  stop(): void {
    clearTimeout(this.#turn);
  }

  #arm(): void {
    this.#turn ??= setTimeout(() => {
      this.#turn = undefined;
      this.#tell();
    }, COALESCE_MS);
  }

  /** A snapshot shows what changed this moment; what it was before is then not what the watcher was told last. */
  #tellPending(): void {
    if (this.#changed.size > 0) this.#tell();
  }

  #tell(): void {
    for (const [user, ids] of this.#concerned()) {
      let events: DirectoryEvent[] | undefined;
      for (const watcher of this.#byUser.of(user)) {
        if (watcher.snapshot) {
          for (const id of ids) if (id <= watcher.snapshot.cursor) watcher.snapshot.missed.add(id);
          continue;
        }
        events ??= this.#eventsOf(user, ids);
        if (!events.every((event) => this.#push(watcher, event))) this.#startSnapshot(watcher);
      }
    }
    this.#changed.clear();
    for (const watcher of [...this.#inSnapshot]) this.#sendSnapshot(watcher);
  }

  /** The watching users whom the changes concern, each with the ids. */
  #concerned(): Map<string, string[]> {
    const concerned = new Map<string, string[]>();
    for (const [id, before] of this.#changed) {
      for (const user of this.#audience(before, this.#directory.get(id))) {
        const ids = concerned.get(user);
        if (ids) ids.push(id);
        else concerned.set(user, [id]);
      }
    }
    return concerned;
  }

  #audience(before: Listing | undefined, after: Listing | undefined): Iterable<string> {
    if (before?.allow.anyone || after?.allow.anyone) return this.#byUser.names();
    const named = new Set<string>();
    for (const listing of [before, after]) {
      if (!listing) continue;
      for (const user of [listing.owner, ...listing.allow.users]) if (this.#byUser.has(user)) named.add(user);
    }
    return named;
  }

  #eventsOf(user: string, ids: Iterable<string>): DirectoryEvent[] {
    const events: DirectoryEvent[] = [];
    let event: DirectoryEvent | undefined;
    for (const id of ids) {
      if (!event || event.entries.length + event.gone.length === LIMITS.directoryPage) {
        event = { snapshot: false, entries: [], gone: [] };
        events.push(event);
      }
      const listing = this.#directory.get(id);
      if (listing && includes(listing, user)) event.entries.push(directoryEntryOf(listing));
      else event.gone.push({ service: id.slice(id.indexOf("/") + 1), user: id.slice(0, id.indexOf("/")) });
    }
    return events;
  }

  #startSnapshot(watcher: Watcher): void {
    watcher.snapshot = { begun: false, cursor: "", missed: new Set() };
    this.#inSnapshot.add(watcher);
  }

  /** Goes on with a snapshot as far as one turn allows. What was left out comes when the session has drained. */
  #sendSnapshot(watcher: Watcher): void {
    const { snapshot, user } = watcher;
    if (!snapshot) return;
    for (const event of this.#eventsOf(user, snapshot.missed)) {
      if (!this.#push(watcher, { ...event, more: true })) return;
    }
    snapshot.missed.clear();
    let bytes = 0;
    while (bytes < SNAPSHOT_BYTES_PER_TURN) {
      const page = this.#directory.page({
        asker: user,
        away: true,
        cursor: snapshot.cursor,
        limit: LIMITS.directoryPage,
      });
      const isLast = page.cursor === undefined;
      const event = { snapshot: !snapshot.begun, ...(isLast ? {} : { more: true }), entries: page.entries, gone: [] };
      if (!this.#push(watcher, event)) return;
      snapshot.begun = true;
      if (page.cursor === undefined) {
        watcher.snapshot = undefined;
        this.#inSnapshot.delete(watcher);
        return;
      }
      snapshot.cursor = page.cursor;
      bytes += JSON.stringify(event).length;
    }
    this.#arm();
  }

  #push(watcher: Watcher, event: DirectoryEvent): boolean {
    const isSent = watcher.session.push("directory", event);
    this.#count(isSent ? "sent" : "left-out");
    return isSent;
  }
}

/** What a key holds: any JSON value but `undefined`, and the version that a compare-and-set must name. */
export interface Entry {
  value: unknown;
  /** Above 0, and greater than that of every earlier state of the same key, deletions included. */
  version: number;
}

export interface StoreRecord extends Entry {
  key: string;
}

export interface Watcher {
  /**
   * A key was written, or deleted (`entry` is undefined). Changes of one key come in the order of their versions; one
   * that is older than what a scan returned meanwhile may still follow it: compare `version`.
   */
  changed(key: string, entry: Entry | undefined, version: number): void;
  /** Changes may have been lost (the connection to Redis was): scan again. */
  resync(): void;
}

/** After it returns the watcher is called no more. */
export type Unwatch = () => void;

export interface ScanOptions {
  /** Only keys behind this one: the last key of the page before. */
  after?: string;
  /** Records in the page: 1 to 1000, by default 100. A shorter page is the last. */
  limit?: number;
}

export interface Health {
  ok: boolean;
  /** For the operator, when not ok. */
  detail?: string;
}

/**
 * Records under path-like keys (`device/<key>`), each with a version. A key is 1 to 512 characters of printable ASCII
 * without spaces, a value at most 64 KiB as JSON.
 *
 * A read sees what was acknowledged before it began, never what may still fail. Wrong arguments are `bad-request` or
 * `too-large`. Every call may throw `store-unavailable`, soon and never after a long wait; of a write it then is not
 * known whether it took place, and reading the record tells.
 */
export interface Store {
  get(key: string): Promise<Entry | undefined>;
  /**
   * Writes if the record's version still is `expected` (0: there must be none); `undefined` deletes. Resolves with the
   * new version once it is durable.
   *
   * Calls made in one turn of the event loop act one after the other, in the order of the calls.
   * @throws IsthmusError conflict | store-unavailable | bad-request | too-large
   */
  compareAndSet(key: string, expected: number, value: unknown): Promise<number>;
  /** One page of the records whose keys start with `prefix` ("" for all), in byte order of their keys. */
  scan(prefix: string, options?: ScanOptions): Promise<StoreRecord[]>;
  /** Every change acknowledged after this resolved is reported, or else a `resync`. */
  watch(prefix: string, watcher: Watcher): Promise<Unwatch>;
  /** Whether reads, writes and watches work at the moment. */
  health(): Health;
  /** Writes already asked for are settled first. */
  close(): Promise<void>;
}

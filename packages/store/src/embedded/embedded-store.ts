import type { DatabaseSync, StatementSync } from "node:sqlite";
import { IsthmusError } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import { checkExpected, checkKey, checkPrefix, encodeValue, keyRange } from "../arguments.ts";
import type { Entry, Health, ScanOptions, Store, StoreRecord, Unwatch, Watcher } from "../store.ts";
import { unavailable } from "../unavailable.ts";
import { type Change, Watchers } from "../watchers.ts";
import { openDatabase } from "./database.ts";

/** Writes of one transaction: it blocks the event loop, so more of them wait for the next turn. */
const WRITES_PER_COMMIT = 500;

const SQL = {
  get: "SELECT version, value FROM records WHERE key = ?",
  put: "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET version = excluded.version, value = excluded.value",
  delete: "DELETE FROM records WHERE key = ?",
  scan: "SELECT key, version, value FROM records WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
  clock: "SELECT version FROM clock",
  setClock: "UPDATE clock SET version = ?",
  // As large as a record may be. At random, since SQLite does not write what stays the same.
  tryOut: "INSERT OR REPLACE INTO trial VALUES (1, randomblob(65536))",
};

interface Write {
  key: string;
  expected: number;
  json: string | undefined;
  resolve(version: number): void;
  reject(error: IsthmusError): void;
}

/** A write's end: the change it made, or undefined for a conflict. */
type Outcome = Change | undefined;

/**
 * Records in one SQLite file. All writes asked for in one turn of the event loop share a transaction, because the disk
 * takes as long for one commit (about 2 ms) as for a hundred. Reads see what is committed, not what waits for that.
 */
export class EmbeddedStore implements Store {
  readonly #database: DatabaseSync;
  readonly #sql: { [name in keyof typeof SQL]: StatementSync };
  readonly #watchers: Watchers;
  readonly #logger: Logger;
  #waiting: Write[] = [];
  #scheduled: NodeJS.Immediate | undefined;
  /** What the database last complained of, until a write succeeds. */
  #trouble: string | undefined;
  /** Why a read failed. It stands until the next start, which examines the file. */
  #damage: string | undefined;
  #closed: boolean = false;

  /** @param directory undefined: in memory, gone with `close` */
  constructor(directory: string | undefined, logger: Logger) {
    this.#database = openDatabase(directory);
    this.#sql = {
      get: this.#database.prepare(SQL.get),
      put: this.#database.prepare(SQL.put),
      delete: this.#database.prepare(SQL.delete),
      scan: this.#database.prepare(SQL.scan),
      clock: this.#database.prepare(SQL.clock),
      setClock: this.#database.prepare(SQL.setClock),
      tryOut: this.#database.prepare(SQL.tryOut),
    };
    this.#watchers = new Watchers(logger);
    this.#logger = logger;
  }

  async get(key: string): Promise<Entry | undefined> {
    checkKey(key);
    const row = this.#read(() => this.#sql.get.get(key));
    return row && { value: JSON.parse(row.value as string), version: row.version as number };
  }

  async compareAndSet(key: string, expected: number, value: unknown): Promise<number> {
    checkKey(key);
    checkExpected(expected, value);
    const json = encodeValue(value);
    if (this.#closed) throw unavailable("the store was closed");
    return new Promise((resolve, reject) => {
      this.#waiting.push({ key, expected, json, resolve, reject });
      this.#scheduled ??= setImmediate(() => this.#commitSome());
    });
  }

  async scan(prefix: string, options: ScanOptions = {}): Promise<StoreRecord[]> {
    const { from, to, limit } = keyRange(prefix, options);
    const rows = this.#read(() => this.#sql.scan.all(from, to, limit));
    return rows.map(({ key, version, value }) => ({
      key: key as string,
      value: JSON.parse(value as string),
      version: version as number,
    }));
  }

  async watch(prefix: string, watcher: Watcher): Promise<Unwatch> {
    checkPrefix(prefix);
    if (this.#closed) throw unavailable("the store was closed");
    return this.#watchers.add(prefix, watcher);
  }

  health(): Health {
    if (this.#closed) return { ok: false, detail: "the store was closed" };
    // Whoever heeds the answer may send no writes any more, so that only a trial shows that the trouble is over.
    if (this.#trouble !== undefined && this.#attempt(() => this.#sql.tryOut.run())) this.#recovered();
    const detail = this.#damage ?? this.#trouble;
    return detail === undefined ? { ok: true } : { ok: false, detail };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    while (this.#waiting.length > 0) this.#commitSome();
    this.#watchers.clear();
    this.#database.close();
  }

  #commitSome(): void {
    clearImmediate(this.#scheduled);
    const writes = this.#waiting.splice(0, WRITES_PER_COMMIT);
    this.#scheduled = this.#waiting.length > 0 ? setImmediate(() => this.#commitSome()) : undefined;
    const outcomes = this.#attempt(() => this.#apply(writes));
    // Conflicts alone write nothing, and so prove nothing.
    if (outcomes?.some((change) => change !== undefined)) this.#recovered();
    for (const [index, write] of writes.entries()) {
      const change = outcomes?.[index];
      if (outcomes === undefined) write.reject(unavailable(this.#trouble!));
      else if (change === undefined) write.reject(new IsthmusError("conflict"));
      else {
        write.resolve(change.version);
        this.#watchers.changed(change);
      }
    }
  }

  #apply(writes: Write[]): Outcome[] {
    const before = this.#clock();
    let clock = before;
    const outcomes = writes.map(({ key, expected, json }) => {
      const version = (this.#sql.get.get(key)?.version ?? 0) as number;
      if (version !== expected) return undefined;
      clock++;
      if (json === undefined) this.#sql.delete.run(key);
      else this.#sql.put.run(key, clock, json);
      return { key, json, version: clock };
    });
    if (clock > before) this.#sql.setClock.run(clock);
    return outcomes;
  }

  /** The newest version of all records. One for all, so that a key's versions never repeat, even past its deletion. */
  #clock(): number {
    return this.#sql.clock.get()!.version as number;
  }

  /** Runs `work` as one transaction. Undefined when the database could not; `#trouble` then says why. */
  #attempt<T>(work: () => T): T | undefined {
    try {
      this.#database.exec("BEGIN IMMEDIATE");
      const result = work();
      this.#database.exec("COMMIT");
      return result;
    } catch (error) {
      // Some failures (a full disk) have ended the transaction already.
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      if (this.#trouble === undefined) this.#logger.error({ err: error }, "the store cannot be written");
      this.#trouble = this.#describe(error);
      return undefined;
    }
  }

  #recovered(): void {
    if (this.#trouble !== undefined) this.#logger.info({}, "the store can be written again");
    this.#trouble = undefined;
  }

  #read<T>(read: () => T): T {
    if (this.#closed) throw unavailable("the store was closed");
    try {
      return read();
    } catch (error) {
      this.#logger.error({ err: error }, "the store cannot be read");
      this.#damage = this.#describe(error);
      throw unavailable(this.#damage);
    }
  }

  #describe(error: unknown): string {
    return `${this.#database.location() ?? "in memory"}: ${(error as Error).message}`;
  }
}

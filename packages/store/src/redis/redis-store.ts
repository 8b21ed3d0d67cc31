import { IsthmusError } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import { checkExpected, checkKey, checkPrefix, encodeValue, keyRange } from "../arguments.ts";
import type { Entry, Health, ScanOptions, Store, StoreRecord, Unwatch, Watcher } from "../store.ts";
import { unavailable } from "../unavailable.ts";
import { Watchers } from "../watchers.ts";
import { ChangeFeed } from "./change-feed.ts";
import { createClient, createSubscriber } from "./connect.ts";
import { describeTarget, type RedisTarget } from "./redis-url.ts";
import { type Client, decodeRecord, type Keys, keysOf } from "./scripts.ts";

/** Milliseconds between two looks at a server that is in trouble, at most: others wait to be told that it is over. */
const TROUBLED_HEARTBEAT_MS = 1_000;
/** Milliseconds to find Redis, dial it and log in at the start. */
const OPEN_MS = 5_000;

export interface RedisStoreOptions {
  logger: Logger;
  /** Milliseconds that one command may take. */
  timeoutMs: number;
  /** Milliseconds between two looks at the server: how soon a silent one is noticed, or a change that never came. */
  heartbeatMs: number;
}

/**
 * Records in Redis, shared by several processes. How durable an acknowledged write is, Redis' own configuration says
 * (`appendfsync`, and for failovers `min-replicas-to-write`). While a cluster moves the keyspace to another node, the
 * calls of one turn may act in another order.
 */
export class RedisStore implements Store {
  readonly #target: RedisTarget;
  readonly #options: RedisStoreOptions;
  readonly #keys: Keys;
  readonly #client: Client;
  readonly #feed: ChangeFeed;
  readonly #watchers: Watchers;
  readonly #underWay = new Set<Promise<unknown>>();
  #heartbeat: NodeJS.Timeout | undefined;
  /** Why the last heartbeat failed. */
  #trouble: string | undefined;
  /** What the connection complained of last. */
  #lastError: string | undefined;
  #closed: boolean = false;

  private constructor(target: RedisTarget, options: RedisStoreOptions) {
    this.#target = target;
    this.#options = options;
    this.#keys = keysOf(target.keyspace, target.db);
    this.#watchers = new Watchers(options.logger);
    this.#client = createClient(target);
    this.#client.on("error", (error: Error & { lastNodeError?: Error }) => {
      // A cluster's own error only says that no node answered.
      this.#lastError = (error.lastNodeError ?? error).message;
    });
    this.#feed = new ChangeFeed({
      dial: () => createSubscriber(target, this.#client),
      channel: this.#keys.changes,
      clock: () => this.#clock(),
      logger: options.logger,
      changed: (change) => this.#watchers.changed(change),
      resync: () => this.#watchers.resync(),
    });
  }

  /** @throws IsthmusError `store-unavailable` that names the address */
  static async open(target: RedisTarget, options: RedisStoreOptions): Promise<RedisStore> {
    const store = new RedisStore(target, options);
    try {
      await store.#within(OPEN_MS, () => store.#client.connect());
      await store.#within(OPEN_MS, () => store.#feed.start());
      await store.#look();
    } catch (error) {
      await store.close();
      throw new IsthmusError("store-unavailable", `cannot use ${describeTarget(target)}: ${detailOf(error)}`);
    }
    store.#scheduleHeartbeat();
    return store;
  }

  async get(key: string): Promise<Entry | undefined> {
    checkKey(key);
    const record = await this.#command(() => this.#client.hget(this.#keys.records, key));
    return record === null ? undefined : decodeRecord(record);
  }

  async compareAndSet(key: string, expected: number, value: unknown): Promise<number> {
    checkKey(key);
    checkExpected(expected, value);
    const json = encodeValue(value) ?? "";
    const { records, index, clock, changes } = this.#keys;
    const version = await this.#command(() =>
      this.#client.isthmusCompareAndSet(records, index, clock, key, expected, json, changes),
    );
    if (version === 0) throw new IsthmusError("conflict");
    return version;
  }

  async scan(prefix: string, options: ScanOptions = {}): Promise<StoreRecord[]> {
    const { from, to, limit } = keyRange(prefix, options);
    const [keys = [], records = []] = await this.#command(() =>
      this.#client.isthmusScan(this.#keys.records, this.#keys.index, from, to, limit),
    );
    return keys.map((key, index) => ({ key, ...decodeRecord(records[index]!) }));
  }

  async watch(prefix: string, watcher: Watcher): Promise<Unwatch> {
    checkPrefix(prefix);
    const problem = this.#closed ? "the store was closed" : this.#feed.problem;
    if (problem !== undefined) throw unavailable(problem);
    return this.#watchers.add(prefix, watcher);
  }

  health(): Health {
    let detail: string | undefined;
    if (this.#closed) detail = "the store was closed";
    else if (this.#client.status !== "ready") detail = this.#offline();
    else detail = this.#trouble ?? this.#feed.problem;
    return detail === undefined ? { ok: true } : { ok: false, detail: `${describeTarget(this.#target)}: ${detail}` };
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#heartbeat);
    this.#watchers.clear();
    await Promise.allSettled(this.#underWay);
    this.#feed.close();
    this.#client.disconnect();
  }

  /** Whether Redis takes writes, without writing anything, and whether all changes came. */
  async #look(): Promise<void> {
    const [clock] = await Promise.all([
      this.#clock(),
      // Changes nothing, but is refused wherever a write is: on a replica, on a full server or disk.
      this.#command(() => this.#client.setrange(this.#keys.clock, 0, "")),
      this.#within(this.#options.timeoutMs, () => this.#feed.ping()),
    ]);
    this.#feed.compareWith(clock);
  }

  /** The newest version of all, 0 at first. */
  async #clock(): Promise<number> {
    return Number(await this.#command(() => this.#client.get(this.#keys.clock)));
  }

  #scheduleHeartbeat(): void {
    const { heartbeatMs } = this.#options;
    const waitMs = this.#trouble === undefined ? heartbeatMs : Math.min(heartbeatMs, TROUBLED_HEARTBEAT_MS);
    this.#heartbeat = setTimeout(async () => {
      let trouble: string | undefined;
      try {
        await this.#look();
      } catch (error) {
        trouble = detailOf(error);
      }
      if (this.#closed) return;
      if (trouble !== undefined && this.#trouble === undefined) {
        this.#options.logger.error({ why: trouble }, "the store is not available");
      }
      if (trouble === undefined && this.#trouble !== undefined) {
        this.#options.logger.info({}, "the store is available again");
      }
      this.#trouble = trouble;
      this.#scheduleHeartbeat();
    }, waitMs);
    this.#heartbeat.unref();
  }

  /** Sends a command now or never. */
  async #command<T>(send: () => Promise<T>): Promise<T> {
    if (this.#client.status !== "ready") throw unavailable(this.#closed ? "the store was closed" : this.#offline());
    return this.#within(this.#options.timeoutMs, send);
  }

  /** Any failure of Redis, and any answer that is late, is `store-unavailable`. */
  async #within<T>(ms: number, ask: () => Promise<T>): Promise<T> {
    if (this.#closed) throw unavailable("the store was closed");
    const reply = ask();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer in ${ms} ms`)), ms);
    });
    const answer = Promise.race([reply, late]);
    this.#underWay.add(answer);
    try {
      return await answer;
    } catch (error) {
      // What a command says of a lost connection is only that.
      throw unavailable(this.#client.status === "ready" ? (error as Error).message : this.#offline());
    } finally {
      clearTimeout(timer);
      this.#underWay.delete(answer);
    }
  }

  #offline(): string {
    return this.#lastError ?? "not connected";
  }
}

/** What `unavailable` was given. */
function detailOf(error: unknown): string {
  return ((error as Error).cause as Error).message;
}

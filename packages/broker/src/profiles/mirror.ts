import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "@isthmus/service";
import { type Store, scanAll, type Unwatch } from "@isthmus/store";
import type { z } from "zod";

/** Waiting time before a scan that failed is tried again. */
const RESCAN_MS = 1000;

export interface MirrorOptions<S extends z.ZodType> {
  store: Store;
  prefix: string;
  schema: S;
  /** Called for each change, in the turn in which the mirror changes; undefined is no record. */
  changed: (id: string, after: z.infer<S> | undefined, before: z.infer<S> | undefined) => void;
  logger: Logger;
}

/**
 * All records under a prefix, in memory: logins and the directory go on while the store is away. What other nodes write
 * arrives by the store's watch; after a `resync` everything is read again.
 */
export class Mirror<S extends z.ZodType> {
  readonly #options: MirrorOptions<S>;
  readonly #records = new Map<string, { record: z.infer<S>; version: number }>();
  readonly #closed = new AbortController();
  #unwatch: Unwatch | undefined;
  /** Versions of what changed while a scan runs: what the scan read may be older. */
  #touched: Map<string, number> | undefined;
  #rescanning = false;
  #rescanAgain = false;

  constructor(options: MirrorOptions<S>) {
    this.#options = options;
  }

  /** @throws IsthmusError `store-unavailable` */
  async open(): Promise<void> {
    const { store, prefix } = this.#options;
    // First the watch, then the scan: nothing is missed between the two.
    this.#unwatch = await store.watch(prefix, {
      changed: (key, entry, version) => this.apply(key.slice(prefix.length), entry?.value, version),
      resync: () => void this.#rescan(),
    });
    await this.#scan();
  }

  close(): void {
    this.#closed.abort();
    this.#unwatch?.();
  }

  get size(): number {
    return this.#records.size;
  }

  get(id: string): z.infer<S> | undefined {
    return this.#records.get(id)?.record;
  }

  ids(): Iterable<string> {
    return this.#records.keys();
  }

  /** A state of a record, from the store or just written to it; an older one than known has no effect. */
  apply(id: string, value: unknown, version: number): void {
    const known = this.#records.get(id);
    if (this.#closed.signal.aborted || (known && known.version >= version)) return;
    this.#touched?.set(id, version);
    const record = value === undefined ? undefined : this.#parse(id, value);
    if (record === undefined) this.#records.delete(id);
    else this.#records.set(id, { record, version });
    if (record !== undefined || known) this.#options.changed(id, record, known?.record);
  }

  #parse(id: string, value: unknown): z.infer<S> | undefined {
    const parsed = this.#options.schema.safeParse(value);
    if (parsed.success) return parsed.data;
    // One record that somebody wrote by hand must not keep the broker from working for all others.
    this.#options.logger.error(
      { key: this.#options.prefix + id, problem: parsed.error.issues[0]?.message },
      "a record in the store is malformed and left out",
    );
    return undefined;
  }

  async #scan(): Promise<void> {
    const { store, prefix } = this.#options;
    const touched = new Map<string, number>();
    const seen = new Set<string>();
    this.#touched = touched;
    try {
      for await (const { key, value, version } of scanAll(store, prefix)) {
        const id = key.slice(prefix.length);
        seen.add(id);
        if ((touched.get(id) ?? 0) < version) this.apply(id, value, version);
      }
    } finally {
      this.#touched = undefined;
    }
    for (const [id, { record }] of this.#records) {
      if (seen.has(id) || touched.has(id)) continue;
      this.#records.delete(id);
      this.#options.changed(id, undefined, record);
    }
  }

  async #rescan(): Promise<void> {
    this.#rescanAgain = true;
    if (this.#rescanning) return;
    this.#rescanning = true;
    while (this.#rescanAgain && !this.#closed.signal.aborted) {
      this.#rescanAgain = false;
      try {
        await this.#scan();
        this.#options.logger.info({ prefix: this.#options.prefix }, "profiles were read again");
      } catch (err) {
        this.#rescanAgain = true;
        this.#options.logger.warn({ err, prefix: this.#options.prefix }, "profiles cannot be read");
        await sleep(RESCAN_MS, undefined, { signal: this.#closed.signal, ref: false }).catch(() => undefined);
      }
    }
    this.#rescanning = false;
  }
}

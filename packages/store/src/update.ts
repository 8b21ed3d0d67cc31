import { setTimeout as sleep } from "node:timers/promises";
import { IsthmusError } from "@isthmus/protocol";
import { encodeValue } from "./arguments.ts";
import type { Entry, Store } from "./store.ts";

/** Enough for some dozens of writers that want one record at the same time; together about 2 s. */
const ATTEMPTS = 40;
const LONGEST_PAUSE_MS = 100;

/**
 * Reads a record, lets `change` decide what it shall be, and writes that unless somebody else wrote meanwhile; then it
 * begins again. `change` gets undefined where there is no record, deletes by returning undefined, and refuses by
 * throwing; nothing is written when what it returns is, as JSON, what was there. It may be called several times.
 *
 * @returns the record as it now is
 * @throws IsthmusError `conflict` when others were always faster
 */
export async function update(
  store: Store,
  key: string,
  change: (value: unknown) => unknown,
): Promise<Entry | undefined> {
  for (let attempt = 1; ; attempt++) {
    const before = await store.get(key);
    // Taken first: it may change the very value it is given.
    const json = encodeValue(before?.value);
    const value = change(before?.value);
    if (encodeValue(value) === json) return before;
    try {
      const version = await store.compareAndSet(key, before?.version ?? 0, value);
      return value === undefined ? undefined : { value, version };
    } catch (error) {
      if (!(error instanceof IsthmusError) || error.code !== "conflict" || attempt === ATTEMPTS) throw error;
    }
    // At random, or writers that met once would meet again.
    await sleep(Math.random() * Math.min(2 ** attempt, LONGEST_PAUSE_MS));
  }
}

import { IsthmusError } from "@isthmus/protocol";
import fc from "fast-check";
import { expect } from "vitest";
import type { Entry, Store } from "../store.ts";
import { Sightings } from "./sightings.ts";

/** Histories tried, and steps in the longest: with a disk that takes some milliseconds for a write, a few seconds. */
const HISTORIES = 40;
const STEPS = 40;

const KEYS = ["a", "a/", "a/1", "a/10", "a/2", "b"];

/** Which version a write names, of those that the key ever had. */
type Named = "current" | "earlier" | "none" | "later";

type Write = { key: string; named: Named; pick: number; value: unknown };

type Step =
  | { do: "get"; key: string }
  | { do: "scan"; prefix: string; after: string | undefined; limit: number }
  /** All in one turn of the event loop. */
  | { do: "write"; writes: Write[] };

const key = fc.constantFrom(...KEYS);
const write: fc.Arbitrary<Write> = fc.record({
  key,
  named: fc.constantFrom<Named>("current", "current", "current", "earlier", "none", "later"),
  pick: fc.nat(100),
  value: fc.option(fc.jsonValue({ maxDepth: 2 }), { nil: undefined, freq: 3 }),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 1, arbitrary: fc.record({ do: fc.constant("get"), key }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("scan"),
      prefix: fc.constantFrom("", "a", "a/", "a/1", "c"),
      after: fc.option(key, { nil: undefined }),
      limit: fc.integer({ min: 1, max: 5 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("write"), writes: fc.array(write, { minLength: 1, maxLength: 5 }) }),
  },
);

/**
 * Random histories of one store against a map. Each has its own prefix, and a watcher that must see exactly the
 * successful writes, in their order.
 */
export async function checkAgainstModel(store: Store): Promise<void> {
  let history = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: STEPS }), async (steps) => {
      const model = new Model(store, `history/${history++}/`);
      await model.run(steps);
    }),
    { numRuns: HISTORIES, endOnFailure: false },
  );
}

class Model {
  readonly #store: Store;
  readonly #root: string;
  readonly #entries = new Map<string, Entry>();
  /** Every version each key ever had, the newest last. */
  readonly #versions = new Map<string, number[]>(KEYS.map((key) => [key, []]));
  readonly #written: { key: string; entry: Entry | undefined; version: number }[] = [];

  constructor(store: Store, root: string) {
    this.#store = store;
    this.#root = root;
  }

  async run(steps: Step[]): Promise<void> {
    const seen = new Sightings();
    const unwatch = await this.#store.watch(this.#root, seen);
    try {
      for (const each of steps) await this.#take(each);
      await seen.until(({ changes }) => changes.length >= this.#written.length);
      expect(seen.changes).toEqual(this.#written);
    } finally {
      unwatch();
    }
  }

  async #take(step: Step): Promise<void> {
    if (step.do === "get") {
      expect(await this.#store.get(this.#root + step.key)).toEqual(this.#entries.get(step.key));
    } else if (step.do === "scan") {
      const { prefix, after, limit } = step;
      const expected = [...this.#entries]
        .filter(([key]) => key.startsWith(prefix) && (after === undefined || key > after))
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .slice(0, limit)
        .map(([key, entry]) => ({ key: this.#root + key, ...entry }));
      const options = after === undefined ? { limit } : { after: this.#root + after, limit };
      expect(await this.#store.scan(this.#root + prefix, options)).toEqual(expected);
    } else {
      await this.#write(step.writes);
    }
  }

  async #write(writes: Write[]): Promise<void> {
    // Named before any is made: of several for one key only the first with the right version can win.
    const named = writes.map((write) => ({ ...write, expected: this.#expected(write) }));
    const outcomes = await Promise.allSettled(
      named.map(({ key, expected, value }) => this.#store.compareAndSet(this.#root + key, expected, value)),
    );
    for (const [index, { key, expected, value }] of named.entries()) {
      const outcome = outcomes[index]!;
      if (expected === 0 && value === undefined) {
        expect(outcome).toMatchObject({ status: "rejected", reason: { code: "bad-request" } });
      } else if (expected !== (this.#entries.get(key)?.version ?? 0)) {
        expect(outcome.status === "rejected" && outcome.reason).toBeInstanceOf(IsthmusError);
        expect(outcome).toMatchObject({ reason: { code: "conflict" } });
      } else {
        expect(outcome.status).toBe("fulfilled");
        this.#wrote(key, value, (outcome as PromiseFulfilledResult<number>).value);
      }
    }
  }

  #wrote(key: string, value: unknown, version: number): void {
    const versions = this.#versions.get(key)!;
    expect(version).toBeGreaterThan(versions.at(-1) ?? 0);
    versions.push(version);
    // As a reader gets it: JSON knows no -0, for one.
    const entry = value === undefined ? undefined : { value: JSON.parse(JSON.stringify(value)), version };
    if (entry === undefined) this.#entries.delete(key);
    else this.#entries.set(key, entry);
    this.#written.push({ key: this.#root + key, entry, version });
  }

  #expected({ key, named, pick }: Write): number {
    const versions = this.#versions.get(key)!;
    const newest = versions.at(-1) ?? 0;
    if (named === "none") return 0;
    if (named === "later") return newest + 1 + pick;
    if (named === "earlier") return versions[pick % (versions.length || 1)] ?? 0;
    return this.#entries.get(key)?.version ?? 0;
  }
}

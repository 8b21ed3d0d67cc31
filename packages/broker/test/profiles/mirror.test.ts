import { silentLogger } from "@isthmus/service";
import { openStore, type Store, type StoreRecord, type Watcher } from "@isthmus/store";
import { expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { Mirror } from "../../src/profiles/mirror.ts";

const schema = z.object({ n: z.number() });

/** The real store in memory; a scan's answer can be held back while others write, and a `resync` be announced. */
async function setUp() {
  const real = await openStore("memory:", { logger: silentLogger() });
  onTestFinished(() => real.close());
  const watchers: Watcher[] = [];
  let scanned: (() => Promise<void>) | undefined;
  const store: Store = {
    get: (key) => real.get(key),
    compareAndSet: (key, expected, value) => real.compareAndSet(key, expected, value),
    async scan(prefix, options): Promise<StoreRecord[]> {
      const records = await real.scan(prefix, options);
      await scanned?.();
      return records;
    },
    watch: (prefix, watcher) => {
      watchers.push(watcher);
      return real.watch(prefix, watcher);
    },
    health: () => real.health(),
    close: () => real.close(),
  };
  const changes: [string, number | undefined][] = [];
  const mirror = new Mirror({
    store,
    prefix: "t/",
    schema,
    changed: (id, after) => changes.push([id, after?.n]),
    logger: silentLogger(),
  });
  onTestFinished(() => mirror.close());
  const state = () => Object.fromEntries([...mirror.ids()].sort().map((id) => [id, mirror.get(id)!.n]));
  return {
    real,
    mirror,
    changes,
    state,
    /** Runs `work` between the next scan's reading and its answer. */
    duringScan: (work: () => Promise<void>) => {
      scanned = async () => {
        scanned = undefined;
        await work();
      };
    },
    resync: () => watchers[0]!.resync(),
  };
}

test("what is written and deleted while the first scan is under way is right afterwards", async () => {
  const { real, mirror, state, duringScan } = await setUp();
  const changed = await real.compareAndSet("t/changed", 0, { n: 1 });
  const deleted = await real.compareAndSet("t/deleted", 0, { n: 1 });
  await real.compareAndSet("t/same", 0, { n: 1 });
  duringScan(async () => {
    await real.compareAndSet("t/changed", changed, { n: 2 });
    await real.compareAndSet("t/deleted", deleted, undefined);
    await real.compareAndSet("t/new", 0, { n: 1 });
  });
  await mirror.open();
  expect(state()).toEqual({ changed: 2, new: 1, same: 1 });
});

test("after a resync it is what the store is, and who listens is told of the differences alone", async () => {
  const { real, mirror, changes, state, duringScan, resync } = await setUp();
  const gone = await real.compareAndSet("t/gone", 0, { n: 1 });
  const old = await real.compareAndSet("t/old", 0, { n: 1 });
  await real.compareAndSet("t/same", 0, { n: 1 });
  await mirror.open();
  changes.length = 0;
  // As if the watch had missed these: they are older than what the mirror was told by hand.
  mirror.apply("zombie", { n: 9 }, 1_000_000);
  const scanned = Promise.withResolvers<void>();
  duringScan(async () => {
    await real.compareAndSet("t/gone", gone, undefined);
    await real.compareAndSet("t/old", old, { n: 2 });
    scanned.resolve();
  });
  resync();
  await scanned.promise;
  await new Promise((resolve) => setImmediate(resolve));
  expect(state()).toEqual({ old: 2, same: 1 });
  expect(changes).toEqual([
    ["zombie", 9],
    ["gone", undefined],
    ["old", 2],
    ["zombie", undefined],
  ]);
});

test("a malformed record is as none, and does no harm to the others", async () => {
  const { real, mirror, state } = await setUp();
  const bad = await real.compareAndSet("t/bad", 0, { n: "x" });
  await real.compareAndSet("t/good", 0, { n: 1 });
  await mirror.open();
  expect(state()).toEqual({ good: 1 });
  await real.compareAndSet("t/bad", bad, { n: 5 });
  expect(state()).toEqual({ bad: 5, good: 1 });
});

test("an older state than the known one has no effect", async () => {
  const { mirror, state } = await setUp();
  await mirror.open();
  mirror.apply("a", { n: 2 }, 20);
  mirror.apply("a", { n: 1 }, 10);
  expect(state()).toEqual({ a: 2 });
});

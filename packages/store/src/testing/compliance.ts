import type { Code } from "@isthmus/protocol";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { scanAll } from "../scan-all.ts";
import type { Store } from "../store.ts";
import { update } from "../update.ts";
import { checkAgainstModel } from "./model.ts";
import { Sightings } from "./sightings.ts";

/** One set of records, empty at first. */
export interface StoreHome {
  /** Opens the store on these records; again while it is open only if `shared`, later only if `lasting`. */
  open(): Promise<Store>;
  /** Called when all stores are closed. */
  remove(): Promise<void>;
}

export interface StoreTraits {
  /** Several stores may have the records open at once. */
  shared: boolean;
  /** The records outlive `close`. */
  lasting: boolean;
}

/** What every store must do, as tests. `home` is called for each. */
export function describeStore(name: string, traits: StoreTraits, home: () => Promise<StoreHome>): void {
  describe(`${name}: the store's contract`, () => {
    let place: StoreHome;
    let opened: Store[];
    let store: Store;

    async function open(): Promise<Store> {
      const another = await place.open();
      opened.push(another);
      return another;
    }

    beforeEach(async () => {
      opened = [];
      place = await home();
      store = await open();
    });

    afterEach(async () => {
      await Promise.all(opened.map((each) => each.close()));
      await place.remove();
    });

    const refusal = (code: Code) => expect.objectContaining({ name: "IsthmusError", code });

    describe("get and compareAndSet", () => {
      it("finds nothing where nothing was written", async () => {
        expect(await store.get("user/alice")).toBeUndefined();
      });

      it.each([
        ["an object", { name: "alice", tags: ["a", "ü", "\u{1f30d}", "\u2028"], deep: { a: { b: [1, { c: null }] } } }],
        ["an array", [1, "two", [3]]],
        ["null, which is not a deletion", null],
        ["false", false],
        ["zero", 0],
        ["a fraction", -1.5e-9],
        ["an empty text", ""],
        ["a text with what stores use as separators", " 12 \r\n \0 {} '\"\\ 7 "],
        ["an object with an unusual key", JSON.parse('{"__proto__": {"admin": true}, "": 1}')],
      ])("gives back %s as it was written", async (_, value) => {
        const version = await store.compareAndSet("user/alice", 0, value);
        expect(await store.get("user/alice")).toEqual({ value, version });
        expect(await store.scan("user/")).toEqual([{ key: "user/alice", value, version }]);
      });

      it("stores the value as it was at the call, and gives a copy to each reader", async () => {
        const value = { names: ["alice"] };
        const written = store.compareAndSet("user/alice", 0, value);
        value.names.push("mallory");
        await written;
        const first = (await store.get("user/alice"))!.value as typeof value;
        expect(first).toEqual({ names: ["alice"] });
        first.names.push("eve");
        expect((await store.get("user/alice"))!.value).toEqual({ names: ["alice"] });
      });

      it("writes over the version that was named, and no other", async () => {
        const first = await store.compareAndSet("user/alice", 0, 1);
        const second = await store.compareAndSet("user/alice", first, 2);
        expect(second).toBeGreaterThan(first);
        await expect(store.compareAndSet("user/alice", first, 3)).rejects.toEqual(refusal("conflict"));
        await expect(store.compareAndSet("user/alice", 0, 3)).rejects.toEqual(refusal("conflict"));
        await expect(store.compareAndSet("user/alice", second + 1, 3)).rejects.toEqual(refusal("conflict"));
        await expect(store.compareAndSet("user/bob", second, 3)).rejects.toEqual(refusal("conflict"));
        expect(await store.get("user/alice")).toEqual({ value: 2, version: second });
        expect(await store.get("user/bob")).toBeUndefined();
      });

      it("deletes", async () => {
        const version = await store.compareAndSet("user/alice", 0, 1);
        await expect(store.compareAndSet("user/alice", version + 1, undefined)).rejects.toEqual(refusal("conflict"));
        expect(await store.compareAndSet("user/alice", version, undefined)).toBeGreaterThan(version);
        expect(await store.get("user/alice")).toBeUndefined();
        expect(await store.scan("")).toEqual([]);
        await expect(store.compareAndSet("user/alice", version, undefined)).rejects.toEqual(refusal("conflict"));
      });

      it("never gives a key the same version twice, so that a stale write fails after delete and create", async () => {
        const versions = [await store.compareAndSet("k", 0, "a")];
        for (let round = 0; round < 5; round++) {
          versions.push(await store.compareAndSet("k", versions.at(-1)!, undefined));
          versions.push(await store.compareAndSet("k", 0, "a"));
        }
        expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
        for (const stale of versions.slice(0, -1)) {
          await expect(store.compareAndSet("k", stale, "b")).rejects.toEqual(refusal("conflict"));
        }
      });

      it("lets exactly one of many writers of the same version win", async () => {
        const outcomes = await Promise.allSettled(
          Array.from({ length: 50 }, (_, writer) => store.compareAndSet("k", 0, writer)),
        );
        const winners = outcomes.flatMap((outcome, writer) =>
          outcome.status === "fulfilled" ? [{ value: writer, version: outcome.value }] : [],
        );
        expect(winners).toHaveLength(1);
        expect(await store.get("k")).toEqual(winners[0]);
        const losers = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
        expect(losers).toEqual(Array(49).fill(refusal("conflict")));
      });

      it("acts on the calls of one turn in their order, and one's conflict harms no other", async () => {
        const version = await store.compareAndSet("old", 0, 0);
        const outcomes = await Promise.allSettled([
          store.compareAndSet("k", 0, "first"),
          store.compareAndSet("k", 0, "second"),
          store.compareAndSet("old", version, undefined),
          store.compareAndSet("old", version, 1),
          store.compareAndSet("old", 0, 2),
          store.compareAndSet("other", 0, 3),
        ]);
        expect(outcomes.map(({ status }) => status)).toEqual([
          "fulfilled",
          "rejected",
          "fulfilled",
          "rejected",
          "fulfilled",
          "fulfilled",
        ]);
        expect((await store.scan("")).map(({ key, value }) => [key, value])).toEqual([
          ["k", "first"],
          ["old", 2],
          ["other", 3],
        ]);
      });
    });

    describe("limits", () => {
      const longest = `k/${"x".repeat(510)}`;

      it.each([
        ["an empty key", ""],
        ["a space", "a b"],
        ["a line feed", "a\nb"],
        ["a NUL", "a\0"],
        ["DEL", "a\x7f"],
        ["a letter outside ASCII", "é"],
        ["513 characters", `${longest}x`],
      ])("refuses %s in or as a key", async (_, key) => {
        await expect(store.get(key)).rejects.toEqual(refusal("bad-request"));
        await expect(store.compareAndSet(key, 0, 1)).rejects.toEqual(refusal("bad-request"));
      });

      it("takes 512 characters and all of printable ASCII", async () => {
        const printable = Array.from({ length: 94 }, (_, index) => String.fromCharCode(0x21 + index)).join("");
        for (const key of [longest, printable]) await store.compareAndSet(key, 0, key);
        expect((await store.scan("")).map(({ key }) => key)).toEqual([printable, longest]);
        expect((await store.get(longest))!.value).toBe(longest);
        expect((await store.scan(longest)).map(({ key }) => key)).toEqual([longest]);
      });

      it("takes a value of 64 KiB as JSON, counted in bytes, and none larger", async () => {
        const largest = "é".repeat((64 * 1024 - 2) / 2);
        const version = await store.compareAndSet("k", 0, largest);
        await expect(store.compareAndSet("k", version, `${largest}x`)).rejects.toEqual(refusal("too-large"));
        expect(await store.get("k")).toEqual({ value: largest, version });
      });

      it("refuses what is no JSON", async () => {
        const circle: { self?: unknown } = {};
        circle.self = circle;
        for (const value of [circle, () => 1, Symbol("s"), 1n]) {
          await expect(store.compareAndSet("k", 0, value)).rejects.toEqual(refusal("bad-request"));
        }
      });

      it("refuses versions that cannot be, and to delete what must not exist", async () => {
        for (const expected of [-1, 0.5, Number.NaN, 2 ** 53, Number.POSITIVE_INFINITY]) {
          await expect(store.compareAndSet("k", expected, 1)).rejects.toEqual(refusal("bad-request"));
        }
        await expect(store.compareAndSet("k", 0, undefined)).rejects.toEqual(refusal("bad-request"));
      });

      it("refuses prefixes and pages that cannot be", async () => {
        await expect(store.scan("a b")).rejects.toEqual(refusal("bad-request"));
        await expect(store.scan("", { after: "é" })).rejects.toEqual(refusal("bad-request"));
        for (const limit of [0, -1, 1.5, 1001, Number.NaN]) {
          await expect(store.scan("", { limit })).rejects.toEqual(refusal("bad-request"));
        }
        await expect(store.watch("é", new Sightings())).rejects.toEqual(refusal("bad-request"));
      });
    });

    describe("scan", () => {
      const keys = ["a", "a!", "a%b", "a*", "a/1", "a/10", "a/2", "a/~", "a[b", "a\\b", "a_b", "b", "B/x", "~"];

      async function fill(): Promise<void> {
        await Promise.all(keys.toReversed().map((key) => store.compareAndSet(key, 0, key)));
      }

      async function found(prefix: string, options?: { after?: string; limit?: number }): Promise<string[]> {
        return (await store.scan(prefix, options)).map(({ key }) => key);
      }

      it("gives all in byte order", async () => {
        await fill();
        const ordered = keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
        expect(await found("")).toEqual(ordered);
      });

      it("takes the prefix literally, no character of it means others", async () => {
        await fill();
        expect(await found("a/")).toEqual(["a/1", "a/10", "a/2", "a/~"]);
        expect(await found("a/1")).toEqual(["a/1", "a/10"]);
        for (const prefix of ["a%", "a*", "a[", "a\\", "a_", "~"]) {
          expect(await found(prefix)).toEqual(keys.filter((key) => key.startsWith(prefix)));
        }
        expect(await found("a/1/")).toEqual([]);
        expect(await found("A")).toEqual([]);
      });

      it("continues behind any key, whether it exists or not", async () => {
        await fill();
        expect(await found("a/", { after: "a/1" })).toEqual(["a/10", "a/2", "a/~"]);
        expect(await found("a/", { after: "a/11" })).toEqual(["a/2", "a/~"]);
        expect(await found("a/", { after: "A" })).toEqual(["a/1", "a/10", "a/2", "a/~"]);
        expect(await found("a/", { after: "a/" })).toEqual(["a/1", "a/10", "a/2", "a/~"]);
        expect(await found("a/", { after: "a/~" })).toEqual([]);
        expect(await found("a/", { after: "b" })).toEqual([]);
      });

      it("pages", async () => {
        await fill();
        expect(await found("a/", { limit: 3 })).toEqual(["a/1", "a/10", "a/2"]);
        expect(await found("a/", { after: "a/2", limit: 3 })).toEqual(["a/~"]);
        const many = Array.from({ length: 1203 }, (_, index) => `many/${String(index).padStart(4, "0")}`);
        await Promise.all(many.map((key, index) => store.compareAndSet(key, 0, index)));
        expect(await found("many/")).toEqual(many.slice(0, 100));
        expect(await found("many/", { limit: 1000 })).toEqual(many.slice(0, 1000));
        const all: [string, unknown][] = [];
        for await (const { key, value } of scanAll(store, "many/")) all.push([key, value]);
        expect(all).toEqual(many.map((key, index) => [key, index]));
      });
    });

    describe("watch", () => {
      it("reports every change under the prefix, in order, and nothing else", async () => {
        const seen = new Sightings();
        await store.watch("a/", seen);
        const first = await store.compareAndSet("a/1", 0, { n: 1 });
        await store.compareAndSet("b/1", 0, 1);
        await store.compareAndSet("a", 0, 1);
        const second = await store.compareAndSet("a/1", first, null);
        await expect(store.compareAndSet("a/1", first, 3)).rejects.toEqual(refusal("conflict"));
        const third = await store.compareAndSet("a/1", second, undefined);
        const fourth = await store.compareAndSet("a/1", 0, "again");
        await seen.until(({ changes }) => changes.length >= 4);
        expect(seen.changes).toEqual([
          { key: "a/1", entry: { value: { n: 1 }, version: first }, version: first },
          { key: "a/1", entry: { value: null, version: second }, version: second },
          { key: "a/1", entry: undefined, version: third },
          { key: "a/1", entry: { value: "again", version: fourth }, version: fourth },
        ]);
      });

      it("stops at once when told to", async () => {
        const [stopped, going] = [new Sightings(), new Sightings()];
        const unwatch = await store.watch("", stopped);
        await store.watch("", going);
        await store.compareAndSet("k", 0, 1);
        await stopped.until(({ changes }) => changes.length === 1);
        unwatch();
        unwatch();
        await store.compareAndSet("l", 0, 1);
        await going.until(({ changes }) => changes.length === 2);
        expect(stopped.changes).toHaveLength(1);
      });

      it("gives each watcher a copy, and one that throws harms neither the others nor the writer", async () => {
        const seen = new Sightings();
        await store.watch("", {
          changed(_, entry) {
            (entry!.value as { n: number }).n = 99;
            throw new Error("the watcher's own failure");
          },
          resync() {},
        });
        await store.watch("", seen);
        const version = await store.compareAndSet("k", 0, { n: 1 });
        await seen.until(({ changes }) => changes.length === 1);
        expect(seen.changes[0]!.entry).toEqual({ value: { n: 1 }, version });
      });

      it("lets a watcher use the store", async () => {
        const seen = new Sightings();
        await store.watch("", seen);
        const unwatch = await store.watch("", {
          changed(key) {
            unwatch();
            void store.compareAndSet(`${key}/copy`, 0, 1);
          },
          resync() {},
        });
        await store.compareAndSet("k", 0, 1);
        await seen.until(({ changes }) => changes.length === 2);
        expect(seen.changes.map(({ key }) => key)).toEqual(["k", "k/copy"]);
      });
    });

    describe("update", () => {
      it("counts right for many at once", async () => {
        const increment = () => update(store, "count", (value) => ((value as number | undefined) ?? 0) + 1);
        await Promise.all(Array.from({ length: 20 }, increment));
        expect((await store.get("count"))!.value).toBe(20);
      });

      it("creates, changes, deletes, and tells what is there then", async () => {
        const created = await update(store, "k", (value) => ({ was: value ?? "nothing" }));
        expect(created).toEqual({ value: { was: "nothing" }, version: expect.any(Number) });
        const changed = await update(store, "k", (value) => Object.assign(value as object, { n: 1 }));
        expect(changed!.value).toEqual({ was: "nothing", n: 1 });
        expect(await store.get("k")).toEqual(changed);
        expect(await update(store, "k", () => undefined)).toBeUndefined();
        expect(await store.get("k")).toBeUndefined();
      });

      it("writes nothing when nothing is to change", async () => {
        expect(await update(store, "k", () => undefined)).toBeUndefined();
        const version = await store.compareAndSet("k", 0, { n: 1 });
        expect(await update(store, "k", () => ({ n: 1 }))).toEqual({ value: { n: 1 }, version });
        expect((await store.get("k"))!.version).toBe(version);
      });

      it("hands on what the change throws, and writes nothing then", async () => {
        const refused = update(store, "k", () => {
          throw new Error("no");
        });
        await expect(refused).rejects.toThrow("no");
        expect(await store.get("k")).toBeUndefined();
      });

      it("gives up when somebody else is always faster", async () => {
        const rivalled: Store = {
          get: (key) => store.get(key),
          async compareAndSet(key, expected, value) {
            await store.compareAndSet(key, expected, "rival");
            return store.compareAndSet(key, expected, value);
          },
          scan: (prefix) => store.scan(prefix),
          watch: (prefix, watcher) => store.watch(prefix, watcher),
          health: () => store.health(),
          close: () => store.close(),
        };
        await expect(update(rivalled, "k", () => "mine")).rejects.toEqual(refusal("conflict"));
        expect((await store.get("k"))!.value).toBe("rival");
      });
    });

    describe("life", () => {
      it("is well while open", () => {
        expect(store.health()).toEqual({ ok: true });
      });

      it("settles pending writes before it closes, and then refuses everything", async () => {
        const written = Array.from({ length: 30 }, (_, index) => store.compareAndSet(`k/${index}`, 0, index));
        await store.close();
        const versions = await Promise.all(written);
        expect(new Set(versions).size).toBe(30);
        await store.close();
        expect(store.health().ok).toBe(false);
        await expect(store.get("k/1")).rejects.toEqual(refusal("store-unavailable"));
        await expect(store.compareAndSet("k/1", 0, 1)).rejects.toEqual(refusal("store-unavailable"));
        await expect(store.scan("")).rejects.toEqual(refusal("store-unavailable"));
        await expect(store.watch("", new Sightings())).rejects.toEqual(refusal("store-unavailable"));
      });

      if (traits.lasting) {
        it("keeps records and the order of versions over close and open", async () => {
          const version = await store.compareAndSet("kept", 0, { n: 1 });
          const gone = await store.compareAndSet("gone", 0, 1);
          const deleted = await store.compareAndSet("gone", gone, undefined);
          await store.close();
          const again = await open();
          expect(await again.scan("")).toEqual([{ key: "kept", value: { n: 1 }, version }]);
          await expect(again.compareAndSet("gone", gone, 2)).rejects.toEqual(refusal("conflict"));
          expect(await again.compareAndSet("gone", 0, 2)).toBeGreaterThan(deleted);
        });
      }

      if (traits.shared) {
        it("shows one store's writes to another, its watchers too", async () => {
          const other = await open();
          const seen = new Sightings();
          await other.watch("k", seen);
          const version = await store.compareAndSet("k", 0, 1);
          expect(await other.get("k")).toEqual({ value: 1, version });
          const outcomes = await Promise.allSettled([
            store.compareAndSet("k", version, "mine"),
            other.compareAndSet("k", version, "yours"),
          ]);
          expect(outcomes.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
          await seen.until(({ changes }) => changes.length === 2);
          expect(seen.changes[1]!.entry).toEqual(await store.get("k"));
        });
      }
    });

    it("behaves as a map with versions, whatever is asked of it in whatever order", { timeout: 60_000 }, async () => {
      await checkAgainstModel(store);
    });
  });
}

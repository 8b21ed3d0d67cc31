import { setImmediate as nextTurn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import { NodeEngine } from "../src/aead/node-engine.ts";
import { EngineRecordOpener, EngineRecordSealer } from "../src/aead/record.ts";
import { engines, IV, KEY, OTHER_KEY } from "./engines.ts";
import { opener, pattern, sealer } from "./record-samples.ts";

const PAIRS = 20_000;
/** Rounds in which the heaps grow to their working size. */
const WARM_UP = 4;
/** Rounds of which the least RSS counts: a heap that grew once is no leak. */
const WINDOW = 6;
/** Of growth from one window to the next. The native structs of the keys alone would leave 15 MB behind. */
const ALLOWED_BYTES = 10_000_000;

setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");

/** Finalizers run a turn after the collection that found their object dead. */
async function settle(): Promise<number> {
  for (let i = 0; i < 4; i++) {
    collect();
    await nextTurn();
  }
  return process.memoryUsage.rss();
}

describe.each(engines)("memory on $name", ({ name, engine }) => {
  test("returns after 20,000 sealers and openers were dropped", async () => {
    const content = pattern(100);
    const rss: number[] = [];
    for (let round = 0; round < WARM_UP + 2 * WINDOW; round++) {
      const pairs = Array.from({ length: PAIRS }, () => ({
        from: sealer(engine, "aes-256-gcm"),
        to: opener(engine, "chacha20-poly1305"),
      }));
      // Each native one works once; a cipher of node:crypto for each would take seconds and hold nothing.
      if (name === "native") for (const { from } of pairs) from.seal(content);
      expect(pairs.at(-1)!.to.records).toBe(0);
      pairs.length = 0;
      rss.push(await settle());
    }
    const before = Math.min(...rss.slice(WARM_UP, WARM_UP + WINDOW));
    const after = Math.min(...rss.slice(-WINDOW));
    expect(after - before, `RSS after each round: ${rss.join(", ")}`).toBeLessThan(ALLOWED_BYTES);
  });

  test("that held one key gives nothing of it to the next", async () => {
    // As many as the add-on has contexts for, again and again, so that keys come to lie where dropped ones lay.
    for (let round = 0; round < 12; round++) {
      const key = round % 2 === 0 ? KEY : OTHER_KEY;
      const sealers = Array.from({ length: 64 }, () => new EngineRecordSealer(engine, "aes-256-gcm", key, IV));
      const sealed = new Set(sealers.map((each) => each.seal(pattern(100)).toString("hex")));
      const reader = new EngineRecordOpener(new NodeEngine(), "aes-256-gcm", key, IV);
      expect([...sealed].map((record) => reader.open(Buffer.from(record, "hex")).status)).toEqual(["data"]);
      sealers.length = 0;
      await settle();
    }
  });
});

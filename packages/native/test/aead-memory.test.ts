import { setImmediate as nextTurn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import { engines } from "./engines.ts";
import { opener, pattern, sealer } from "./record-samples.ts";

const PAIRS = 20_000;
const ROUNDS = 10;
/** Rounds in which the heaps grow to their working size. */
const WARM_UP = 4;
/** Of growth in the other rounds: half of what the keys' native structs alone would leave behind, some 80 bytes each. */
const ALLOWED_BYTES = ((ROUNDS - WARM_UP) * 2 * PAIRS * 80) / 2;

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
    for (let round = 0; round < ROUNDS; round++) {
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
    expect(rss.at(-1)! - rss[WARM_UP - 1]!, `RSS after each round: ${rss.join(", ")}`).toBeLessThan(ALLOWED_BYTES);
  });
});

import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "@isthmus/service";
import { expect, it } from "vitest";
import { openStore } from "../src/index.ts";
import { runChild } from "./child/run.ts";
import { Ledger } from "./ledger.ts";

const ROUNDS = 6;
/** Acknowledged writes before a kill: enough to pass the folding of the log into the file in some rounds. */
const [FEWEST, MOST] = [50, 1000];

it("loses no acknowledged write when killed, again and again", { timeout: 120_000 }, async () => {
  const root = await mkdtemp(join(tmpdir(), "isthmus-store-"));
  const [directory, notes] = [join(root, "store"), join(root, "notes")];
  const ledger = new Ledger();
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const child = runChild("writer.ts", [directory, notes]);
      const gone = once(child, "exit");
      const enough = FEWEST + Math.floor(Math.random() * (MOST - FEWEST));
      let progress = 0;
      child.stdout.on("data", (dots: Buffer) => {
        progress += dots.length;
        if (progress >= enough) child.kill("SIGKILL");
      });
      expect(await gone).toEqual([null, "SIGKILL"]);
      // What follows the last line feed is nothing, or the beginning of a line.
      for (const line of (await readFile(notes, "utf8")).split("\n").slice(0, -1)) {
        const [word, key, content, version] = line.split(" ") as [string, string, string, string?];
        const n = content === "" ? undefined : Number(content);
        if (word === "tried") ledger.tried(key, n);
        else ledger.done(key, n, Number(version));
      }
      // Opening also examines the file.
      const store = await openStore(directory, { logger: silentLogger() });
      await ledger.check(store);
      await store.close();
    }
  } finally {
    await rm(root, { recursive: true });
  }
  expect(ledger.acknowledged).toBeGreaterThanOrEqual(ROUNDS * FEWEST);
});

import { openSync, writeSync } from "node:fs";
import { silentLogger } from "@isthmus/service";
import { openStore } from "../../src/index.ts";
import { writeForever } from "../writers.ts";

// Writes to a directory until it is killed. What it was told stands in a file before it takes the next step; standard
// output only shows how far it is.
const [, , directory, notes] = process.argv;
const store = await openStore(directory!, { logger: silentLogger() });
const file = openSync(notes!, "w");
const note = (...words: unknown[]) => void writeSync(file, `${words.join(" ")}\n`);
await writeForever(store, {
  tried: (key, content) => note("tried", key, content),
  done: (key, content, version) => {
    note("done", key, content, version);
    process.stdout.write(".");
  },
});

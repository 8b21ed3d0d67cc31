import { silentLogger } from "@isthmus/service";
import { openStore } from "../../src/index.ts";

// Opens a directory, fills some pages of the file itself and some of its log, says so, and stays.
const store = await openStore(process.argv[2]!, { logger: silentLogger() });
for (let n = 0; n < 200; n++) {
  const written = Array.from({ length: 10 }, (_, index) =>
    n === 0 ? store.compareAndSet(`filler/${index}`, 0, "x".repeat(60_000)) : Promise.resolve(0),
  );
  await Promise.all([...written, store.compareAndSet(`held/${n}`, 0, "x".repeat(20_000))]);
}
process.stdout.write("held\n");
setInterval(() => undefined, 60_000);

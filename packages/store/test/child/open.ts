import { silentLogger } from "@isthmus/service";
import { openStore } from "../../src/index.ts";

// Opens a store, writes a record and reads it; one line tells how that went.
try {
  const store = await openStore(process.argv[2]!, { logger: silentLogger() });
  await store.compareAndSet("opened", 0, true);
  const entry = await store.get("opened");
  await store.close();
  console.log(`value ${JSON.stringify(entry?.value)}`);
} catch (error) {
  console.log((error as Error).message);
}

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "@isthmus/service";
import { openStore } from "../src/index.ts";
import { describeStore } from "../src/testing.ts";

const logger = silentLogger();

describeStore("embedded", { shared: false, lasting: true }, async () => {
  const directory = await mkdtemp(join(tmpdir(), "isthmus-store-"));
  return {
    open: () => openStore(directory, { logger }),
    remove: () => rm(directory, { recursive: true }),
  };
});

describeStore("memory", { shared: false, lasting: false }, async () => ({
  open: () => openStore("memory:", { logger }),
  remove: async () => {},
}));

import { silentLogger } from "@isthmus/service";
import { UserspaceDataPath } from "../src/index.ts";
import { describeDataPath, loopbackHosts } from "../src/testing.ts";

describeDataPath("userspace", async () => ({
  dataPath: new UserspaceDataPath({ logger: silentLogger() }),
  hosts: loopbackHosts(),
  remove: async () => undefined,
}));

import { execFileSync } from "node:child_process";
import { silentLogger } from "@isthmus/service";
import { EbpfDataPath } from "../src/index.ts";
import { describeDataPath, loopbackHosts } from "../src/testing.ts";

describeDataPath("ebpf", async () => ({
  dataPath: new EbpfDataPath({ logger: silentLogger() }),
  hosts: loopbackHosts(),
  // With the filter the maps go.
  remove: async () => void execFileSync("tc", ["qdisc", "del", "dev", "lo", "clsact"]),
}));

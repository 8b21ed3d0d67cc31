import { silentLogger } from "@isthmus/service";
import { SocketSplicer, UserspaceDataPath } from "../src/index.ts";
import { describeDataPath, loopbackHosts } from "../src/testing.ts";

for (const [name, makeSplicer] of [
  ["userspace", () => new SocketSplicer()],
  ["userspace without the pump", () => new SocketSplicer({})],
] as const) {
  describeDataPath(name, async () => ({
    dataPath: new UserspaceDataPath({ logger: silentLogger(), splicer: makeSplicer() }),
    hosts: loopbackHosts(),
    remove: async () => undefined,
  }));
}

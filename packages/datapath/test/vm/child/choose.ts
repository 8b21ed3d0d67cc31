import { DEFAULT_PORTS, openDataPath, SocketSplicer } from "@isthmus/datapath";
import { silentLogger } from "@isthmus/service";

/** Prints which data path a process gets, and why: one without privileges, unless it is told to be as it is. */
if (process.argv[2] !== "as-it-is") {
  process.setgroups!([]);
  process.setgid!(65_534);
  process.setuid!(65_534);
}
const { dataPath, capabilities, reason } = await openDataPath(
  { driver: "auto", logger: silentLogger(), splicer: new SocketSplicer(), bind: [] },
  { ports: DEFAULT_PORTS, udpIdleMs: 60_000, onEvent: () => undefined },
);
console.log(JSON.stringify({ name: capabilities.name, reason }));
await dataPath.close();

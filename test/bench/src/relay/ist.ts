/**
 * `ist DRIVER SPLICE SOURCE_A SOURCE_B FIRST_PORT CELLS`: the data path of an IST, `ebpf` or `userspace`, with as many
 * cells as asked for (even ports for side 0, odd ones for side 1), which are `passive` or `pure`. Says `ready`, and runs
 * until it is ended.
 */
import { type Driver, openDataPath, SocketSplicer } from "@isthmus/datapath";
import { sourcePrefix } from "@isthmus/protocol";
import { createLogger } from "@isthmus/service";

/** A pair of UDP legs stays from one measurement to the next. */
const UDP_IDLE_MS = 3_600_000;
const NO_LIMITS = { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: 3500 };

const [driver = "", splice = "", sourceA = "", sourceB = "", ...numbers] = process.argv.slice(2);
const [first = 0, cells = 0] = numbers.map(Number);

const { dataPath } = await openDataPath(
  {
    driver: driver as Driver,
    logger: createLogger({ name: "ist", level: "warn" }),
    splicer: new SocketSplicer(),
    bind: [],
  },
  { ports: { from: first, to: first + 2 * cells }, udpIdleMs: UDP_IDLE_MS, onEvent: () => undefined },
);
await dataPath.allocate({
  allocation: "00000000000000a1",
  cells: Array.from({ length: cells }, (_, cell) => ({
    cell,
    ports: [first + 2 * cell, first + 2 * cell + 1] as const,
    ...(splice === "pure" && { pure: {} }),
  })),
  sources: [[sourcePrefix(sourceA)], [sourcePrefix(sourceB)]],
  limits: NO_LIMITS,
});
process.stdout.write("ready\n");

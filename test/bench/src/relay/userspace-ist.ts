/**
 * `userspace-ist SOURCE_A SOURCE_B FIRST_PORT CELLS`: the data path of an IST in user space, with as many cells as asked
 * for (even ports for side 0, odd ones for side 1). Says `ready`, and runs until it is ended.
 */
import { openDataPath, SocketSplicer } from "@isthmus/datapath";
import { sourcePrefix } from "@isthmus/protocol";
import { createLogger } from "@isthmus/service";

/** A pair of UDP legs stays from one measurement to the next. */
const UDP_IDLE_MS = 3_600_000;
const NO_LIMITS = { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: 3500 };

const [sourceA = "", sourceB = "", first = 0, cells = 0] = process.argv
  .slice(2)
  .map((word, n) => (n < 2 ? word : Number(word))) as [string, string, number, number];

const { dataPath } = await openDataPath(
  {
    driver: "userspace",
    logger: createLogger({ name: "userspace-ist", level: "warn" }),
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
  })),
  sources: [[sourcePrefix(sourceA)], [sourcePrefix(sourceB)]],
  limits: NO_LIMITS,
});
process.stdout.write("ready\n");

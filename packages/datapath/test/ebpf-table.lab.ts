import { execFileSync } from "node:child_process";
import { silentLogger } from "@isthmus/service";
import { afterEach, expect, it, onTestFinished, vi } from "vitest";
import { EbpfDataPath } from "../src/index.ts";
import { CrowdedTable, TestDatagrams, type TestLeg, talk } from "../src/testing.ts";
import { ALLOCATION, hosts, SPEC } from "./one-cell.ts";
import { connect, opened } from "./opened.ts";

/** Of the flow table: two for each splice. */
const ENTRIES = process.env.ISTHMUS_FULL === "1" ? 1_000_000 : 100_000;
const SPLICES = ENTRIES / 2;
const IDLE_MS = 30_000;
const FLUSH_MS = 5000;

afterEach(() => {
  execFileSync("tc", ["qdisc", "del", "dev", "lo", "clsact"]);
});

/** Of half a million ends none is waited for. */
function start(mostSplices?: number) {
  const dataPath = new EbpfDataPath({ logger: silentLogger(), ...(mostSplices ? { mostSplices } : {}) });
  return opened(dataPath, ({ event }) => event !== "closed");
}

/** How long something took, in milliseconds, and how often the loop came round meanwhile. */
async function timed(work: Promise<unknown>): Promise<{ ms: number; turns: number }> {
  const start = performance.now();
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await work;
  clearInterval(timer);
  return { ms: performance.now() - start, turns };
}

it(`holds ${ENTRIES} entries: others meet among them, and they are taken over, told of, aged and flushed`, async () => {
  const first = await start();
  const [cell] = await first.dataPath.allocate(SPEC);
  const { ports } = cell!;
  const early: [TestLeg, TestLeg] = [connect(0, ports[0]), connect(1, ports[1])];
  await talk(early, "the first");
  await first.dataPath.close();

  const crowd = await CrowdedTable.find();
  crowd.grow(SPLICES - 1, IDLE_MS + 30_000);
  expect(crowd.entries).toBe(ENTRIES);

  const second = await start();
  expect((await second.dataPath.stats()).splices).toBe(SPLICES);
  await talk(early, "still there");
  const late: [TestLeg, TestLeg] = [connect(0, ports[0]), connect(1, ports[1])];
  await talk(late, "one more");
  const [allocation] = await second.dataPath.dump();
  expect(allocation!.splices).toHaveLength(SPLICES + 1);

  // Nothing has come on those that nobody has: they are idle, the two that somebody has are not.
  const aged = await timed(
    (async () => {
      await second.dataPath.update(ALLOCATION, { limits: { ...SPEC.limits, idleMs: IDLE_MS } });
      await vi.waitFor(async () => expect((await second.dataPath.stats()).splices).toBe(2), {
        timeout: 60_000,
        interval: 50,
      });
    })(),
  );
  expect(aged.turns).toBeGreaterThan(SPLICES / 10_000);
  expect(crowd.entries).toBe(4);
  await talk(early, "not idle");
  await talk(late, "nor is this");
  await second.dataPath.close();

  crowd.grow(SPLICES - 2);
  for (const copy of [0, 1, 1000]) crowd.pass(SPLICES - 1 + copy);
  expect(crowd.entries).toBe(ENTRIES);
  const { dataPath } = await start();
  const flushed = await timed(dataPath.release(ALLOCATION, "released"));
  expect(flushed.ms).toBeLessThan(FLUSH_MS);
  expect(flushed.turns).toBeGreaterThan(SPLICES / 10_000);
  expect(crowd.entries).toBe(0);
  expect(await dataPath.stats()).toMatchObject({ cells: 0, splices: 0, halves: 0 });
  const ends = await Promise.all([...early, ...late].map((leg) => leg.whenEnded()));
  expect(ends).toEqual(ends.map(() => "reset"));
}, 300_000);

it("has an end, at which others are refused and counted, and has room again behind it", async () => {
  const { dataPath, events } = await start(2);
  const [cell] = await dataPath.allocate(SPEC);
  const { ports } = cell!;
  const met: [TestLeg, TestLeg][] = [];
  for (let n = 0; n < 2; n++) {
    met.push([connect(0, ports[0]), connect(1, ports[1])]);
    await talk(met[n]!, "room for this");
  }
  connect(0, ports[0]);
  connect(1, ports[1]);
  await vi.waitFor(async () => expect((await dataPath.stats()).closed["ist-full"]).toBeGreaterThan(0), 10_000);
  const [a, b] = await Promise.all(hosts.sides.map((side) => TestDatagrams.on(side)));
  onTestFinished(() => [a!, b!].forEach((socket) => void socket.close()));
  await a!.send(ports[0], "one");
  await events.next({ event: "half", proto: "udp" });
  await b!.send(ports[1], "two");
  await vi.waitFor(async () => expect((await dataPath.stats()).dropped["table-full"]).toBeGreaterThan(0), 10_000);
  expect((await dataPath.stats()).splices).toBe(2);
  for (const legs of met) await talk(legs, "as before");
  await dataPath.release(ALLOCATION, "released");
  const [again] = await dataPath.allocate(SPEC);
  await talk([connect(0, again!.ports[0]), connect(1, again!.ports[1])], "room again");
});

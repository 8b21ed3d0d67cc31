import { execFileSync } from "node:child_process";
import { sourcePrefix } from "@isthmus/protocol";
import { silentLogger } from "@isthmus/service";
import { afterEach, expect, it, vi } from "vitest";
import { EbpfDataPath } from "../src/index.ts";
import { type TestLeg, talk } from "../src/testing.ts";
import { ALLOCATION, hosts, SPEC } from "./one-cell.ts";
import { connect, opened } from "./opened.ts";

afterEach(() => {
  execFileSync("tc", ["qdisc", "del", "dev", "lo", "clsact"]);
});

function start() {
  return opened(new EbpfDataPath({ logger: silentLogger() }));
}

it("cells, sources and splices go on when the driver is closed, and the next one takes them over", async () => {
  const first = await start();
  const [cell] = await first.dataPath.allocate(SPEC);
  const { ports } = cell!;
  const spliced: [TestLeg, TestLeg] = [connect(0, ports[0]), connect(1, ports[1])];
  await talk(spliced, "before");
  await first.dataPath.close();
  await talk(spliced, "nobody is in control");
  const other: [TestLeg, TestLeg] = [connect(0, ports[0]), connect(1, ports[1])];
  await talk(other, "met without anybody");

  const { dataPath, events } = await start();
  const [allocation] = await dataPath.dump();
  expect(allocation).toMatchObject({ allocation: ALLOCATION, cells: [{ cell: 0, ports }] });
  expect(allocation!.splices).toHaveLength(2);
  expect(await dataPath.stats()).toMatchObject({ cells: 1, splices: 2, bytes: 0, closed: {} });
  await talk(spliced, "taken over");
  expect((await dataPath.stats()).bytes).toBe(20);
  other[0].reset();
  await events.next({ event: "closed", allocation: ALLOCATION, code: "reset" });
  const grown = await dataPath.update(ALLOCATION, { cells: [{ cell: 0 }, { cell: 1 }] });
  expect(grown[0]).toEqual({ cell: 0, ports });
  await talk([connect(0, grown[1]!.ports[0]), connect(1, grown[1]!.ports[1])], "at a new cell");

  const moved = [[sourcePrefix(hosts.stranger.address)], [sourcePrefix(hosts.sides[1].address)]] as const;
  await dataPath.update(ALLOCATION, { sources: moved });
  connect(0, ports[0]);
  await vi.waitFor(async () => expect((await dataPath.stats()).dropped.stranger).toBeGreaterThan(0), 10_000);
  await dataPath.release(ALLOCATION, "revoked");
  expect(await Promise.all(spliced.map((leg) => leg.whenEnded()))).toEqual(["reset", "reset"]);
  expect(await dataPath.stats()).toMatchObject({ cells: 0, splices: 0, halves: 0 });
});

it("pure cells are taken over as they were made, whatever they have learned meanwhile", async () => {
  const first = await start();
  const pure = [{}, { learns: 0 }, { learns: 1 }] as const;
  const cells = await first.dataPath.allocate({ ...SPEC, cells: pure.map((kind, cell) => ({ cell, pure: kind })) });
  for (const cell of [1, 2]) await first.dataPath.learn(ALLOCATION, cell, 40_000 + cell);
  await first.dataPath.close();

  const { dataPath } = await start();
  expect(await dataPath.dump()).toEqual([{ allocation: ALLOCATION, cells, splices: [] }]);
  await dataPath.learn(ALLOCATION, 1, 40_003);
  const more = await dataPath.update(ALLOCATION, { cells: [0, 1, 3].map((cell) => ({ cell })) });
  expect(more.slice(0, 2)).toEqual(cells.slice(0, 2));
});

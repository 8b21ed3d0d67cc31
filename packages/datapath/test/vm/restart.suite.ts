import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { type CellPorts, DEFAULT_PORTS, KernelDataPath, type KernelOptions } from "@isthmus/datapath";
import { type TestLeg, talk } from "@isthmus/datapath/testing";
import { silentLogger } from "@isthmus/service";
import { afterEach, expect, it, onTestFinished, vi } from "vitest";
import { ALLOCATION, SPEC } from "../one-cell.ts";
import { connect, opened } from "../opened.ts";
import { removeAllocations } from "./allocations.ts";

/** The module's file, to load it anew. */
const MODULE = process.env.ISTHMUS_MODULE!;

afterEach(removeAllocations);

function child(program: string): string {
  return new URL(`child/${program}.ts`, import.meta.url).pathname;
}

function start(options: Partial<KernelOptions> = {}) {
  return opened(new KernelDataPath({ logger: silentLogger(), ...options }));
}

it("cells and splices outlive a process that is killed, and the next one takes them over", async () => {
  const first = spawn(process.execPath, [child("allocate")], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void first.kill("SIGKILL"));
  const [line] = (await once(createInterface({ input: first.stdout }), "line")) as [string];
  const [{ ports }] = JSON.parse(line) as [CellPorts];
  const spliced: [TestLeg, TestLeg] = [connect(0, ports[0]), connect(1, ports[1])];
  await talk(spliced, "before");
  first.kill("SIGKILL");
  await once(first, "exit");
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
  await dataPath.release(ALLOCATION, "revoked");
  expect(await Promise.all(spliced.map((leg) => leg.whenEnded()))).toEqual(["reset", "reset"]);
});

it("pure cells are taken over as they were made, whatever they have learned meanwhile", async () => {
  const first = new KernelDataPath({ logger: silentLogger() });
  await first.open({ ports: DEFAULT_PORTS, udpIdleMs: 60_000, onEvent: () => undefined });
  const pure = [{}, { learns: 0 }, { learns: 1 }] as const;
  const cells = await first.allocate({ ...SPEC, cells: pure.map((kind, cell) => ({ cell, pure: kind })) });
  for (const cell of [1, 2]) await first.learn(ALLOCATION, cell, 40_000 + cell);
  await first.close();

  const { dataPath } = await start();
  expect(await dataPath.dump()).toEqual([{ allocation: ALLOCATION, cells, splices: [] }]);
  await dataPath.learn(ALLOCATION, 1, 40_003);
  const more = await dataPath.update(ALLOCATION, { cells: [0, 1, 3].map((cell) => ({ cell })) });
  expect(more.slice(0, 2)).toEqual(cells.slice(0, 2));
});

it("nobody else may use it at the same time", async () => {
  await start();
  await expect(start()).rejects.toThrow(
    "another IST uses the kernel's data path (it holds the lock 'isthmus-ist-kernel')",
  );
});

it("without the privilege it is not used, and the reason says so", () => {
  const said = execFileSync(process.execPath, [child("choose")], { encoding: "utf8" });
  expect(JSON.parse(said)).toEqual({
    name: "userspace",
    reason:
      "the kernel's data path cannot be used: CAP_NET_ADMIN is needed to use the module ist_splice; " +
      "the BPF data path cannot be used: this process lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN",
  });
});

it("ports are reserved, and those of other programs not taken", async () => {
  const { dataPath } = await start();
  expect(readFileSync("/proc/sys/net/ipv4/ip_local_reserved_ports", "utf8")).toContain("20000-32767");
  const program = createServer().listen(30_000, "127.0.0.1");
  onTestFinished(() => void program.close());
  await once(program, "listening");
  const [cell] = await dataPath.allocate({ ...SPEC, cells: [{ cell: 0, ports: [30_000, 30_001] }] });
  expect(cell!.ports[0]).not.toBe(30_000);
  expect(cell!.ports[1]).toBe(30_001);
});

it("when the module is loaded anew the allocations are there again", async () => {
  const { dataPath, events } = await start();
  const [cell] = await dataPath.allocate(SPEC);
  const legs: [TestLeg, TestLeg] = [connect(0, cell!.ports[0]), connect(1, cell!.ports[1])];
  await talk(legs, "before");
  await events.next({ event: "established" });
  const before = await dataPath.stats();
  expect(before).toMatchObject({ splices: 1, bytes: 12 });
  execFileSync("rmmod", ["ist_splice"]);
  await events.next({ event: "closed", code: "reset" });
  const more = { cells: [{ cell: 0 }, { cell: 1 }] };
  await expect(dataPath.update(ALLOCATION, more)).rejects.toMatchObject({ code: "ist-full" });
  expect(await dataPath.update(ALLOCATION, { limits: { ...SPEC.limits, splices: 1 } })).toEqual([cell]);
  execFileSync("insmod", [MODULE]);
  await vi.waitFor(async () => expect(await dataPath.stats()).toMatchObject({ cells: 1, splices: 0 }), 10_000);
  expect(await dataPath.dump()).toEqual([{ allocation: ALLOCATION, cells: [cell], splices: [] }]);
  await talk([connect(0, cell!.ports[0]), connect(1, cell!.ports[1])], "after");
  await events.next({ event: "established" });
  expect((await dataPath.stats()).bytes).toBe(12 + 10);
  // The limit that came while the module was away.
  connect(0, cell!.ports[0]);
  connect(1, cell!.ports[1]);
  await events.next({ event: "closed", code: "splice-limit" });
});

it("events that were lost are told, and later ones come", async () => {
  const { dataPath, events } = await start({ eventBufferBytes: 8192 });
  const [cell] = await dataPath.allocate(SPEC);
  // Nothing is received meanwhile.
  execFileSync(process.execPath, [child("connect"), String(cell!.ports[0]), "100"]);
  await events.next({ event: "resynchronise" });
  await talk([connect(0, cell!.ports[0]), connect(1, cell!.ports[1])], "later");
  await events.next({ event: "established" });
});

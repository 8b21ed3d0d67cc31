import { randomBytes } from "node:crypto";
import { type DatagramCell, theDatagramRelay } from "@isthmus/native/datagrams";
import { sourcePrefix } from "@isthmus/protocol";
import { silentLogger } from "@isthmus/service";
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { type AllocationSpec, DEFAULT_PORTS, SocketSplicer, UserspaceDataPath } from "../src/index.ts";
import { EventLog, TestDatagrams, type TestHost, type TestHosts } from "../src/testing.ts";
import { datagramPair } from "./datagram-pair.ts";
import { ALLOCATION, hosts, oneCell } from "./one-cell.ts";
import { NO_LIMITS } from "./spliced-legs.ts";

/** The largest that UDP over IPv4 carries. */
const LARGEST = 65_507;
/** All of one size, some of none, a short one at the end of many; as much at once as any system's socket buffers hold. */
const BURSTS = [
  [...Array(40).fill(1200), 333],
  [0, 0, 1200, 1200, 0, 1, 1, 1201, 1200, 700, 700, 701, 0],
  Array.from({ length: 40 }, (_, n) => (n * 397) % 1500),
  [LARGEST],
  [9000, 9000, 9000, 100],
];

const relay = theDatagramRelay();
const { sides, stranger, sides6 } = hosts;

describe.each([
  ["in threads of the add-on", () => new SocketSplicer()],
  ["in JavaScript", () => new SocketSplicer({})],
])("datagrams in user space, %s", (where, makeSplicer) => {
  const isNative = where === "in threads of the add-on" && relay !== undefined;
  let dataPath: UserspaceDataPath;
  let hasIpv6: boolean;
  let events: EventLog;
  let sockets: TestDatagrams[];

  beforeEach(async () => {
    dataPath = new UserspaceDataPath({ logger: silentLogger(), splicer: makeSplicer() });
    events = new EventLog();
    sockets = [];
    const opened = await dataPath.open({ ports: DEFAULT_PORTS, udpIdleMs: 60_000, onEvent: events.add });
    hasIpv6 = opened.ipv6;
  });

  afterEach(async () => {
    for (const socket of sockets) socket.close();
    await dataPath.close();
    vi.restoreAllMocks();
  });

  function spec(cells: number, pair?: TestHosts["sides"]): AllocationSpec {
    return { ...oneCell(pair), cells: Array.from({ length: cells }, (_, cell) => ({ cell })), limits: NO_LIMITS };
  }

  async function client(host: TestHost): Promise<TestDatagrams> {
    const socket = await TestDatagrams.on(host);
    sockets.push(socket);
    return socket;
  }

  async function pair(ports: readonly [number, number], [a, b]: TestHosts["sides"] = sides) {
    const both = [await client(a), await client(b)] as const;
    await both[0].send(ports[0], "early");
    await events.next({ event: "half", side: 0 });
    await both[1].send(ports[1], "hello");
    await events.next({ event: "established" });
    expect(String(await both[0].next())).toBe("hello");
    return both;
  }

  it.each([
    ["IPv4", sides],
    ["IPv6", sides6!],
    ["one of each", [sides[0], sides6![1]] as const],
  ])("bursts of all sizes arrive whole and in order, both ways at once, over %s", async (_, ends) => {
    if (!hasIpv6 && ends !== sides) return;
    const added = isNative ? vi.spyOn(relay, "add") : undefined;
    const [cell] = await dataPath.allocate(spec(1, ends));
    const { ports } = cell!;
    const both = await pair(ports, ends);
    for (const sizes of BURSTS) {
      const sent = both.map(() => sizes.map((size) => randomBytes(size)));
      // Sent in one turn: nothing waits for what is before it.
      await Promise.all(both.flatMap((from, side) => sent[side]!.map((bytes) => from.send(ports[side]!, bytes))));
      for (const [side, to] of both.entries()) {
        for (const bytes of sent[1 - side]!) expect(await to.next()).toEqual(bytes);
      }
    }
    const { dropped } = await dataPath.stats();
    expect(dropped).toEqual({ early: 1 });
    const relayed = added?.mock.results[0]?.value as DatagramCell | undefined;
    if (isNative) expect(relayed!.bytes).toEqual((await dataPath.dump())[0]!.splices[0]!.bytes);
  });

  it("floods of others and garbage take nothing from a pair", async () => {
    const [cell] = await dataPath.allocate(spec(1));
    const { ports } = cell!;
    const [a, b] = await pair(ports);
    const others = [await client(stranger), await client(sides[0])];
    const flooding = Promise.all(
      Array.from({ length: 200 }, (_, n) => others[n % 2]!.send(ports[n % 3 === 0 ? 1 : 0]!, randomBytes(n))),
    );
    for (let n = 0; n < 50; n++) {
      await a.send(ports[0], `to b ${n}`);
      expect(String(await b.next())).toBe(`to b ${n}`);
    }
    await flooding;
    await vi.waitFor(async () => {
      const { dropped } = await dataPath.stats();
      expect((dropped.stranger ?? 0) + (dropped.foreign ?? 0)).toBe(200);
    });
    expect([a.waiting, b.waiting, ...others.map(({ waiting }) => waiting)]).toEqual([0, 0, 0, 0]);
  });

  it("a source that is expected from now on may come, and one that is not any more stays", async () => {
    const [cell] = await dataPath.allocate(spec(1));
    const { ports } = cell!;
    const early = await client(stranger);
    await early.send(ports[0], "too early");
    await vi.waitFor(async () => expect((await dataPath.stats()).dropped).toEqual({ stranger: 1 }));
    const late = [[sourcePrefix(stranger.address)], [sourcePrefix(sides[1].address)]] as const;
    await dataPath.update(ALLOCATION, { sources: late });
    await early.send(ports[0], "in time");
    await events.next({ event: "half", side: 0 });
    const b = await client(sides[1]);
    await b.send(ports[1], "welcome");
    expect(String(await early.next())).toBe("welcome");
    await dataPath.update(ALLOCATION, { sources: [[], []] });
    await early.send(ports[0], "still here");
    expect(String(await b.next())).toBe("still here");
  });

  it("a cell that is closed amid traffic leaves free ports and right counts", async () => {
    const cells = await dataPath.allocate(spec(8));
    const pairs: { ports: readonly [number, number]; both: readonly [TestDatagrams, TestDatagrams] }[] = [];
    for (const { ports } of cells) pairs.push({ ports, both: await pair(ports) });
    const sending = setInterval(() => {
      for (const { ports, both } of pairs) {
        for (const side of [0, 1] as const) void both[side].send(ports[side], Buffer.alloc(1000));
      }
    }, 1);
    try {
      await vi.waitFor(async () => expect((await dataPath.stats()).bytes).toBeGreaterThan(100_000));
      await dataPath.update(ALLOCATION, { cells: cells.slice(0, 4).map(({ cell }) => ({ cell })) });
      const again = cells.slice(4).map(({ ports }, n) => ({ cell: 10 + n, ports }));
      const anew = await dataPath.update(ALLOCATION, { cells: [...cells.slice(0, 4), ...again] });
      expect(anew.slice(4).map(({ ports }) => ports)).toEqual(again.map(({ ports }) => ports));
      const known = await dataPath.stats();
      expect(known.closed.released).toBe(4);
      await vi.waitFor(async () => expect((await dataPath.stats()).bytes).toBeGreaterThan(known.bytes + 100_000));
    } finally {
      clearInterval(sending);
    }
    await dataPath.release(ALLOCATION, "released");
    expect(await dataPath.stats()).toMatchObject({ cells: 0, splices: 0, udpSplices: 0, halves: 0 });
  });
});

it.runIf(relay !== undefined)("an allocation with a source that is no address leaves its ports free", async () => {
  const dataPath = new UserspaceDataPath({ logger: silentLogger(), splicer: new SocketSplicer() });
  const { from } = DEFAULT_PORTS;
  await dataPath.open({ ports: { from, to: from + 1 }, udpIdleMs: 60_000, onEvent: () => undefined });
  const spec = { allocation: ALLOCATION, cells: [{ cell: 0 }], limits: NO_LIMITS };
  try {
    await expect(dataPath.allocate({ ...spec, sources: [["127.0.0.1"], ["elsewhere"]] })).rejects.toThrow(
      "an address is a literal",
    );
    // There are no others.
    const [cell] = await dataPath.allocate({ ...spec, sources: [["127.0.0.1"], ["127.0.0.3"]] });
    expect([...cell!.ports].sort()).toEqual([from, from + 1]);
  } finally {
    await dataPath.close();
  }
});

it.runIf(relay !== undefined)("many of one size go by segments, where the kernel cuts them", async () => {
  const added = vi.spyOn(relay!, "add");
  onTestFinished(() => added.mockRestore());
  const { events, ports, a, b } = await datagramPair();
  const relayed = added.mock.results[0]!.value as DatagramCell;
  await a.send(ports[0], "early");
  await b.send(ports[1], "hello");
  await events.next({ event: "established" });
  // Until some have been waiting for the relay together.
  await vi.waitFor(async () => {
    await Promise.all(Array.from({ length: 40 }, () => a.send(ports[0], Buffer.alloc(1200))));
    expect(relayed.segmented).toBeGreaterThan(0);
  });
});

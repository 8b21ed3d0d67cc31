import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import type { AllocationLimits, Code, Side } from "@isthmus/protocol";
import { sourcePrefix } from "@isthmus/protocol";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { AllocationSpec, Capabilities, CellSpec, DataPath, DataPathEvent, DataPathStats } from "../data-path.ts";
import { DEFAULT_PORTS } from "../port-range.ts";
import { EventLog } from "./event-log.ts";
import type { TestHost, TestHosts } from "./hosts.ts";
import { TestDatagrams } from "./test-datagrams.ts";
import type { TestLeg } from "./test-leg.ts";

/** A driver that is not open yet, and hosts that reach it. */
export interface DataPathPlace {
  dataPath: DataPath;
  hosts: TestHosts;
  /** Called when the data path is closed. */
  remove(): Promise<void>;
}

const NO_LIMITS: AllocationLimits = {
  splices: 0,
  idleMs: 0,
  totalMs: 0,
  bytes: 0,
  bytesPerSecond: 0,
  halfMs: 3500,
};
const UDP_IDLE_MS = 500;
const LONG_UDP_IDLE_MS = 20_000;
const ALLOCATION = "00000000000000a1";
const OTHER = "00000000000000b2";

/** What every driver must do, as tests over real sockets. `place` is called for each. */
export function describeDataPath(name: string, place: () => Promise<DataPathPlace>): void {
  describe(`${name}: the data path's contract`, () => {
    let dataPath: DataPath;
    let hosts: TestHosts;
    let remove: () => Promise<void>;
    let capabilities: Capabilities;
    let events: EventLog;
    let legs: TestLeg[];
    let sockets: TestDatagrams[];
    let udpIdleMs = UDP_IDLE_MS;

    beforeEach(async () => {
      ({ dataPath, hosts, remove } = await place());
      events = new EventLog();
      legs = [];
      sockets = [];
      capabilities = await dataPath.open({ ports: DEFAULT_PORTS, udpIdleMs, onEvent: events.add });
    });

    afterEach(async () => {
      for (const leg of legs) leg.socket.destroy();
      for (const socket of sockets) socket.close();
      await dataPath.close();
      await remove();
    });

    function spec(changes: Partial<AllocationSpec> & { limit?: Partial<AllocationLimits> } = {}): AllocationSpec {
      const { limit, ...rest } = changes;
      return {
        allocation: ALLOCATION,
        cells: [{ cell: 0 }],
        sources: [[sourcePrefix(hosts.sides[0].address)], [sourcePrefix(hosts.sides[1].address)]],
        limits: { ...NO_LIMITS, ...limit },
        ...rest,
      };
    }

    /** An allocation of one cell; its ports. */
    async function oneCell(limit: Partial<AllocationLimits> = {}): Promise<readonly [number, number]> {
      const [cell] = await dataPath.allocate(spec({ limit }));
      return cell!.ports;
    }

    function connect(host: TestHost, port: number): TestLeg {
      const leg = host.connect(port);
      legs.push(leg);
      return leg;
    }

    /** Two legs that met. */
    async function pair(ports: readonly [number, number], first: Side = 0): Promise<[TestLeg, TestLeg]> {
      const second = first === 0 ? 1 : 0;
      const early = connect(hosts.sides[first], ports[first]);
      await events.next({ event: "half", side: first, proto: "tcp" });
      const late = connect(hosts.sides[second], ports[second]);
      await events.next({ event: "established", proto: "tcp" });
      return first === 0 ? [early, late] : [late, early];
    }

    async function datagrams(host: TestHost): Promise<TestDatagrams> {
      const socket = await TestDatagrams.on(host);
      sockets.push(socket);
      return socket;
    }

    /** Two UDP sources that met; one datagram of side 1 has arrived at side 0. */
    async function udpPair(ports: readonly [number, number]): Promise<[TestDatagrams, TestDatagrams]> {
      const a = await datagrams(hosts.sides[0]);
      const b = await datagrams(hosts.sides[1]);
      await a.send(ports[0], "hello");
      await events.next({ event: "half", side: 0, proto: "udp" });
      await b.send(ports[1], "hello");
      await events.next({ event: "established", proto: "udp" });
      expect((await a.next()).toString()).toBe("hello");
      return [a, b];
    }

    /** The counters once they are as the test expects; for what is counted and announced by no event. */
    async function counted(check: (stats: DataPathStats) => void): Promise<void> {
      await vi.waitFor(async () => check(await dataPath.stats()), { timeout: 10_000, interval: 10 });
    }

    async function expectReset(pairOfLegs: [TestLeg, TestLeg], code: Code): Promise<void> {
      await events.next({ event: "closed", code, proto: "tcp" });
      expect(await Promise.all(pairOfLegs.map((leg) => leg.whenEnded()))).toEqual(["reset", "reset"]);
      expect((await dataPath.stats()).closed[code]).toBe(1);
    }

    describe("cells", () => {
      it("have a port of their own for each side, out of the range", async () => {
        const cells = await dataPath.allocate(spec({ cells: [{ cell: 0 }, { cell: 1 }, { cell: 7 }] }));
        expect(cells.map(({ cell }) => cell)).toEqual([0, 1, 7]);
        const ports = cells.flatMap((cell) => cell.ports);
        expect(new Set(ports).size).toBe(6);
        for (const port of ports) {
          expect(port).toBeGreaterThanOrEqual(DEFAULT_PORTS.from);
          expect(port).toBeLessThanOrEqual(DEFAULT_PORTS.to);
        }
        expect(await dataPath.dump()).toEqual([{ allocation: ALLOCATION, cells, splices: [] }]);
        expect(await dataPath.stats()).toMatchObject({ cells: 3, halves: 0, splices: 0 });
      });

      it("get the ports that they are asked to have, when these are free", async () => {
        const before = await oneCell();
        await dataPath.release(ALLOCATION, "released");
        const [again] = await dataPath.allocate(spec({ cells: [{ cell: 0, ports: before }] }));
        expect(again!.ports).toEqual(before);
        const [other] = await dataPath.allocate(spec({ allocation: OTHER, cells: [{ cell: 0, ports: before }] }));
        expect(other!.ports[0]).not.toBe(before[0]);
        expect(other!.ports[1]).not.toBe(before[1]);
      });

      it("are added and closed by update, and stay where they are otherwise", async () => {
        const [first] = await dataPath.allocate(spec());
        const grown = await dataPath.update(ALLOCATION, { cells: [{ cell: 0 }, { cell: 4 }] });
        expect(grown[0]).toEqual(first);
        const more = await dataPath.update(ALLOCATION, { cells: [{ cell: 4 }, { cell: 2 }, { cell: 0 }] });
        expect(more).toEqual([grown[0], expect.objectContaining({ cell: 2 }), grown[1]]);
        const left = await dataPath.update(ALLOCATION, { cells: [{ cell: 0 }, { cell: 4 }] });
        expect(left).toEqual(grown);
        expect((await dataPath.stats()).cells).toBe(2);
        await pair(left[1]!.ports);
      });

      it("keep splices when they are closed, and end the leg that waits", async () => {
        const ports = await oneCell();
        const spliced = await pair(ports);
        const waiting = connect(hosts.sides[0], ports[0]);
        await events.next({ event: "half" });
        await dataPath.update(ALLOCATION, { cells: [] });
        await events.next({ event: "closed", code: "released" });
        spliced[0].write("still here");
        expect((await spliced[1].bytes(10)).toString()).toBe("still here");
        expect((await dataPath.stats()).halves).toBe(0);
        expect(waiting.length).toBe(0);
      });
    });

    describe("pure cells", () => {
      const PURE: CellSpec[] = [
        { cell: 0, pure: {} },
        { cell: 1, pure: { learns: 0 } },
        { cell: 2, pure: { learns: 1 } },
      ];

      it("are there where the driver can pass ports unchanged, and are refused elsewhere", async () => {
        if (!capabilities.pure) {
          const refusal = { code: "unsupported-rendezvous" };
          for (const cell of PURE) {
            await expect(dataPath.allocate(spec({ cells: [cell] }))).rejects.toMatchObject(refusal);
          }
          await oneCell();
          await expect(dataPath.update(ALLOCATION, { cells: PURE })).rejects.toMatchObject(refusal);
          await expect(dataPath.learn(ALLOCATION, 0, 1)).rejects.toMatchObject({ code: "unknown-allocation" });
          return;
        }
        const cells = await dataPath.allocate(spec({ cells: PURE }));
        expect(cells.map(({ pure }) => pure)).toEqual(PURE.map(({ pure }) => pure));
        // A port that is learned is not there yet.
        expect(cells.map(({ ports }) => ports.map((port) => port > 0))).toEqual([
          [true, true],
          [true, false],
          [false, true],
        ]);
        expect(new Set(cells.flatMap(({ ports }) => ports)).size).toBe(5);
        expect(await dataPath.dump()).toEqual([{ allocation: ALLOCATION, cells, splices: [] }]);
        const changed = await dataPath.update(ALLOCATION, { cells: [{ cell: 0 }, { cell: 1 }, { cell: 4 }] });
        expect(changed).toEqual([cells[0], cells[1], expect.objectContaining({ cell: 4 })]);
        await pair(changed[2]!.ports);
        expect(await dataPath.stats()).toMatchObject({ cells: 3, splices: 1, pureSplices: 0 });
      });

      it("learn a port as often as they are asked to, but none on which this host listens", async () => {
        if (!capabilities.pure) return;
        const [agreed, learning] = await dataPath.allocate(spec({ cells: PURE }));
        await using server = createServer().listen(0, hosts.sides[0].ist);
        await once(server, "listening");
        const { port } = server.address() as AddressInfo;
        for (const learned of [40_001, 40_002, 40_002]) await dataPath.learn(ALLOCATION, 1, learned);
        await expect(dataPath.learn(ALLOCATION, 1, port)).rejects.toMatchObject({ code: "conflict" });
        for (const other of [0, 7]) {
          await expect(dataPath.learn(ALLOCATION, other, 40_001)).rejects.toMatchObject({ code: "unknown-allocation" });
        }
        // What was learned is for one leg, and no part of the cell.
        expect((await dataPath.dump())[0]!.cells.slice(0, 2)).toEqual([agreed, learning]);
      });
    });

    it("refuses an allocation that exists, and an update of one that does not", async () => {
      await oneCell();
      await expect(dataPath.allocate(spec())).rejects.toMatchObject({ code: "conflict" });
      await expect(dataPath.update(OTHER, { limits: NO_LIMITS })).rejects.toMatchObject({ code: "unknown-allocation" });
      await dataPath.release(OTHER, "released");
    });

    describe("TCP legs", () => {
      it.each([0, 1] as const)("meet when side %i comes first, and carry bytes both ways", async (first) => {
        const [a, b] = await pair(await oneCell(), first);
        const [fromA, fromB] = [randomBytes(3_000_000), randomBytes(2_000_000)];
        a.write(fromA);
        b.write(fromB);
        expect(digest(await b.bytes(fromA.length))).toBe(digest(fromA));
        expect(digest(await a.bytes(fromB.length))).toBe(digest(fromB));
        expect(await dataPath.stats()).toMatchObject({ splices: 1, halves: 0 });
        const [{ splices }] = (await dataPath.dump()) as [Awaited<ReturnType<DataPath["dump"]>>[number]];
        expect(splices).toMatchObject([{ cell: 0, proto: "tcp" }]);
        for (const [side, { length }] of [fromA, fromB].entries()) {
          const bytes = splices[0]!.bytes[side]!;
          expect(bytes).toBeGreaterThanOrEqual(length);
          // Where packets are moved, those count again that TCP has sent again.
          expect(bytes).toBeLessThan(capabilities.name === "userspace" ? length + 1 : 2 * length);
        }
        expect(splices[0]!.sources.map(({ host }) => host)).toEqual(hosts.sides.map(({ address }) => address));
        expect(splices[0]!.sources.map(({ port }) => port)).toEqual([a.socket.localPort, b.socket.localPort]);
      });

      it("get what was sent before they met first", async () => {
        const ports = await oneCell();
        const a = connect(hosts.sides[0], ports[0]);
        const early = randomBytes(300_000);
        a.write(early.subarray(0, 7));
        a.write(early.subarray(7));
        await events.next({ event: "half" });
        const b = connect(hosts.sides[1], ports[1]);
        b.write("answer");
        expect(digest(await b.bytes(early.length))).toBe(digest(early));
        expect((await a.bytes(6)).toString()).toBe("answer");
      });

      it("report who waits", async () => {
        const ports = await oneCell();
        const b = connect(hosts.sides[1], ports[1]);
        const half = await events.next({ event: "half" });
        const source = { host: hosts.sides[1].address, port: expect.any(Number) };
        expect(half).toEqual({ event: "half", allocation: ALLOCATION, cell: 0, proto: "tcp", side: 1, source });
        const a = connect(hosts.sides[0], ports[0]);
        await events.next({ event: "paired" });
        await events.next({ event: "established" });
        a.write("x");
        await b.bytes(1);
        expect((half as Extract<DataPathEvent, { event: "half" }>).source.port).toBe(b.socket.localPort);
      });

      it("free the cell at once: later pairs do not mix with earlier ones", async () => {
        const ports = await oneCell();
        const pairs = [await pair(ports), await pair(ports, 1), await pair(ports)];
        for (const [index, [a, b]] of pairs.entries()) {
          a.write(`to ${index}`);
          b.write(`from ${index}`);
        }
        for (const [index, [a, b]] of pairs.entries()) {
          expect((await b.bytes(4)).toString()).toBe(`to ${index}`);
          expect((await a.bytes(6)).toString()).toBe(`from ${index}`);
        }
        expect((await dataPath.stats()).splices).toBe(3);
      });

      it("do not mix with those of other cells and allocations", async () => {
        const [zero, one] = await dataPath.allocate(spec({ cells: [{ cell: 0 }, { cell: 1 }] }));
        const [other] = await dataPath.allocate(spec({ allocation: OTHER }));
        const waiting = connect(hosts.sides[0], zero!.ports[0]);
        await events.next({ event: "half", allocation: ALLOCATION, cell: 0 });
        connect(hosts.sides[1], one!.ports[1]);
        await events.next({ event: "half", allocation: ALLOCATION, cell: 1 });
        connect(hosts.sides[1], other!.ports[1]);
        await events.next({ event: "half", allocation: OTHER, cell: 0 });
        expect(await dataPath.stats()).toMatchObject({ splices: 0, halves: 3 });
        const partner = connect(hosts.sides[1], zero!.ports[1]);
        await events.next({ event: "established", allocation: ALLOCATION, cell: 0 });
        waiting.write("found");
        expect((await partner.bytes(5)).toString()).toBe("found");
      });

      it("are replaced by a newer one of the same side", async () => {
        const ports = await oneCell();
        connect(hosts.sides[0], ports[0]);
        await events.next({ event: "half" });
        const newer = connect(hosts.sides[0], ports[0]);
        await events.next({ event: "closed", code: "replaced" });
        const b = connect(hosts.sides[1], ports[1]);
        await events.next({ event: "established" });
        b.write("to the newer one");
        await newer.bytes(16);
        expect(await dataPath.stats()).toMatchObject({ splices: 1, halves: 0, closed: { replaced: 1 } });
      });

      it("end when no peer comes, and leave the cell as it was", async () => {
        const ports = await oneCell({ halfMs: 150 });
        connect(hosts.sides[0], ports[0]);
        await events.next({ event: "half" });
        await events.next({ event: "closed", code: "no-peer-leg" });
        expect(await dataPath.stats()).toMatchObject({ halves: 0, closed: { "no-peer-leg": 1 } });
        await dataPath.update(ALLOCATION, { limits: NO_LIMITS });
        await pair(ports, 1);
      });

      it("wait as long as a changed limit says", async () => {
        const ports = await oneCell({ halfMs: 130_000 });
        connect(hosts.sides[0], ports[0]);
        await events.next({ event: "half" });
        await dataPath.update(ALLOCATION, { limits: { ...NO_LIMITS, halfMs: 100 } });
        await events.next({ event: "closed", code: "no-peer-leg" });
      });

      it("of strangers are refused and counted, and disturb nobody", async () => {
        const ports = await oneCell();
        const a = connect(hosts.sides[0], ports[0]);
        await events.next({ event: "half" });
        const stranger = connect(hosts.stranger, ports[1]);
        stranger.write("let me in");
        await counted((stats) => expect(strangers(stats)).toBeGreaterThanOrEqual(1));
        if (!capabilities.silentDrop) expect(await stranger.whenEnded()).toBe("reset");
        // An expected source is a stranger at the other side's port.
        connect(hosts.sides[0], ports[1]);
        await counted((stats) => expect(strangers(stats)).toBeGreaterThanOrEqual(2));
        const b = connect(hosts.sides[1], ports[1]);
        b.write("expected");
        expect((await a.bytes(8)).toString()).toBe("expected");
        expect(stranger.length).toBe(0);
        expect((await dataPath.stats()).splices).toBe(1);
      });

      it("are expected from where update says from then on, and those that met go on", async () => {
        const ports = await oneCell();
        const old = await pair(ports);
        const sources = [[sourcePrefix(hosts.stranger.address)], [sourcePrefix(hosts.sides[1].address)]] as const;
        await dataPath.update(ALLOCATION, { sources });
        connect(hosts.sides[0], ports[0]);
        await counted((stats) => expect(strangers(stats)).toBeGreaterThanOrEqual(1));
        const a = connect(hosts.stranger, ports[0]);
        await events.next({ event: "half", side: 0 });
        const b = connect(hosts.sides[1], ports[1]);
        a.write("moved");
        expect((await b.bytes(5)).toString()).toBe("moved");
        old[0].write("old");
        expect((await old[1].bytes(3)).toString()).toBe("old");
      });

      it.each([
        ["IPv6 on both sides", [6, 6]],
        ["IPv4 and IPv6", [4, 6]],
        ["IPv6 and IPv4", [6, 4]],
      ] as const)("meet over %s", async (_, families) => {
        const { sides6 } = hosts;
        if (!capabilities.ipv6 || !sides6) return;
        const ends = families.map((family, side) => (family === 6 ? sides6 : hosts.sides)[side]!);
        const sources = ends.map(({ address }) => [sourcePrefix(address)]) as [string[], string[]];
        const [cell] = await dataPath.allocate(spec({ sources }));
        const a = connect(ends[0]!, cell!.ports[0]);
        const half = await events.next({ event: "half" });
        expect(half).toMatchObject({ source: { host: ends[0]!.address } });
        const b = connect(ends[1]!, cell!.ports[1]);
        a.write("over");
        b.write("back");
        expect((await b.bytes(4)).toString()).toBe("over");
        expect((await a.bytes(4)).toString()).toBe("back");
      });
    });

    describe("the end of a TCP splice", () => {
      it.each([0, 1] as const)("passes a FIN of side %i alone; the other direction goes on", async (side) => {
        const both = await pair(await oneCell());
        const [ender, other] = side === 0 ? both : [both[1], both[0]];
        ender.write("last words");
        ender.end();
        expect((await other.bytes(10)).toString()).toBe("last words");
        expect(await other.whenEnded()).toBe("end");
        const answer = randomBytes(1_000_000);
        other.write(answer);
        expect(digest(await ender.bytes(answer.length))).toBe(digest(answer));
        expect(ender.ended).toBeUndefined();
        other.end();
        expect(await ender.whenEnded()).toBe("end");
        await events.next({ event: "closed", code: "finished" });
        expect(await dataPath.stats()).toMatchObject({ splices: 0, closed: { finished: 1 } });
      });

      it.each([0, 1] as const)("passes a reset of side %i as a reset", async (side) => {
        const both = await pair(await oneCell());
        const [resetter, other] = side === 0 ? both : [both[1], both[0]];
        resetter.write("x");
        await other.bytes(1);
        resetter.reset();
        expect(await other.whenEnded()).toBe("reset");
        await events.next({ event: "closed", code: "reset" });
        expect(await dataPath.stats()).toMatchObject({ splices: 0, closed: { reset: 1 } });
      });

      it("passes a reset that follows a FIN of the other side", async () => {
        const [a, b] = await pair(await oneCell());
        a.end();
        expect(await b.whenEnded()).toBe("end");
        b.reset();
        expect(await a.whenEnded()).toBe("reset");
        await events.next({ event: "closed", code: "reset" });
      });

      it("is a reset of both legs for the reason of a release", async () => {
        const ports = await oneCell();
        const both = await pair(ports);
        const waiting = connect(hosts.sides[0], ports[0]);
        await events.next({ event: "half" });
        await dataPath.release(ALLOCATION, "revoked");
        expect(await Promise.all(both.map((leg) => leg.whenEnded()))).toEqual(["reset", "reset"]);
        if (!capabilities.silentDrop) expect(await waiting.whenEnded()).toBe("reset");
        expect(await dataPath.stats()).toMatchObject({ cells: 0, halves: 0, splices: 0, closed: { revoked: 2 } });
        expect(await dataPath.dump()).toEqual([]);
      });
    });

    describe("limits", () => {
      it("refuse a splice too many and take one again when another has ended", async () => {
        const ports = await oneCell({ splices: 1 });
        const [a] = await pair(ports);
        connect(hosts.sides[0], ports[0]);
        connect(hosts.sides[1], ports[1]);
        await events.next({ event: "closed", code: "splice-limit" });
        expect(await dataPath.stats()).toMatchObject({ splices: 1, halves: 0, closed: { "splice-limit": 1 } });
        a.reset();
        await events.next({ event: "closed", code: "reset" });
        await pair(ports);
      });

      it("end a splice on which nothing moves, and none on which something does", async () => {
        const idleMs = 1000;
        const both = await pair(await oneCell({ idleMs }));
        const [a, b] = both;
        const start = performance.now();
        for (let n = 1; performance.now() - start < 3 * idleMs; n++) {
          a.write("?");
          await b.bytes(n);
          b.write("!");
          await a.bytes(n);
        }
        expect((await dataPath.stats()).splices).toBe(1);
        await expectReset(both, "idle-limit");
      });

      it("end a splice that is too old, though it is busy", async () => {
        const [a, b] = await pair(await oneCell({ totalMs: 300, idleMs: 10_000 }));
        const busy = (async () => {
          for (let n = 1; ; n++) {
            a.write("?");
            await b.bytes(n);
            b.write("!");
            await a.bytes(n);
          }
        })();
        await expect(busy).rejects.toThrow("reset");
        await expectReset([a, b], "time-limit");
      });

      it("end a splice that carried its bytes, both ways together", async () => {
        const both = await pair(await oneCell({ bytes: 100_000 }));
        const [a, b] = both;
        a.write(randomBytes(40_000));
        await b.bytes(40_000);
        b.write(randomBytes(40_000));
        await a.bytes(40_000);
        a.write(randomBytes(40_000));
        await expectReset(both, "byte-limit");
        expect(b.length).toBeLessThanOrEqual(60_000);
      });

      it("keep the rate of the whole allocation, both ways and over all splices", async () => {
        const bytesPerSecond = 2_000_000;
        const ports = await oneCell({ bytesPerSecond });
        const pairs = [await pair(ports), await pair(ports)];
        const start = performance.now();
        const part = randomBytes(500_000);
        await Promise.all(
          pairs.flatMap(([a, b]) => {
            a.write(part);
            b.write(part);
            return [a.bytes(part.length), b.bytes(part.length)];
          }),
        );
        const seconds = (performance.now() - start) / 1000;
        // All but a burst and the last chunk of each direction had to wait.
        expect(seconds).toBeGreaterThan((4 * part.length - 0.1 * bytesPerSecond - 4 * 65_536) / bytesPerSecond);
        for (const leg of pairs.flat()) expect(digest(leg.received)).toBe(digest(part));
      });

      it("hold for splices that exist when they change", async () => {
        const both = await pair(await oneCell());
        await dataPath.update(ALLOCATION, { limits: { ...NO_LIMITS, idleMs: 150 } });
        await expectReset(both, "idle-limit");
      });

      it("of bytes hold for splices that have carried some when they change, and no longer when they are lifted", async () => {
        const both = await pair(await oneCell());
        const [a, b] = both;
        const carry = async (bytes: number): Promise<void> => {
          const before = b.length;
          a.write(randomBytes(bytes));
          await b.bytes(before + bytes);
        };
        await carry(40_000);
        await dataPath.update(ALLOCATION, { limits: { ...NO_LIMITS, bytes: 100_000 } });
        await carry(20_000);
        await dataPath.update(ALLOCATION, { limits: NO_LIMITS });
        await carry(200_000);
        await dataPath.update(ALLOCATION, { limits: { ...NO_LIMITS, bytes: 300_000 } });
        a.write(randomBytes(100_000));
        await expectReset(both, "byte-limit");
      });
    });

    describe("UDP legs", () => {
      it("meet by their first datagrams and carry datagrams unchanged, of any size", async () => {
        const ports = await oneCell();
        const [a, b] = await udpPair(ports);
        for (const size of [0, 1, 1200, 1452, 9000]) {
          const [fromA, fromB] = [randomBytes(size), randomBytes(size)];
          await a.send(ports[0], fromA);
          expect(await b.next()).toEqual(fromA);
          await b.send(ports[1], fromB);
          expect(await a.next()).toEqual(fromB);
        }
        const [allocation] = await dataPath.dump();
        expect(allocation!.splices).toMatchObject([{ cell: 0, proto: "udp", bytes: [11_653, 11_658] }]);
        expect(await dataPath.stats()).toMatchObject({ splices: 1, halves: 0, dropped: { early: 1 } });
        expect([a.waiting, b.waiting]).toEqual([0, 0]);
      });

      it("of one cell are apart from its TCP legs", async () => {
        const ports = await oneCell();
        const [a] = await udpPair(ports);
        const tcp = await pair(ports);
        const [, b] = [a, sockets[1]!];
        tcp[0].write("stream");
        await a.send(ports[0], "datagram");
        expect((await tcp[1].bytes(6)).toString()).toBe("stream");
        expect((await b.next()).toString()).toBe("datagram");
        expect(await dataPath.stats()).toMatchObject({ splices: 2, udpSplices: 1 });
      });

      it("are the first sources alone: others are dropped and counted", async () => {
        const ports = await oneCell();
        const [a, b] = await udpPair(ports);
        const neighbour = await datagrams(hosts.sides[0]);
        await neighbour.send(ports[0], "me too");
        await counted(({ dropped }) => expect(dropped.foreign).toBe(1));
        const stranger = await datagrams(hosts.stranger);
        await stranger.send(ports[0], "me too");
        await counted(({ dropped }) => expect(dropped.stranger).toBe(1));
        await a.send(ports[0], "mine");
        expect((await b.next()).toString()).toBe("mine");
        expect([b.waiting, neighbour.waiting, stranger.waiting]).toEqual([0, 0, 0]);
      });

      it("of strangers take no place at an empty cell", async () => {
        const ports = await oneCell();
        const stranger = await datagrams(hosts.stranger);
        await stranger.send(ports[0], "first");
        await counted(({ dropped }) => expect(dropped.stranger).toBe(1));
        await udpPair(ports);
        expect(stranger.waiting).toBe(0);
      });

      it("are forgotten when idle: others may take their place", async () => {
        const ports = await oneCell();
        await udpPair(ports);
        await events.next({ event: "closed", code: "idle-limit", proto: "udp" });
        const [a, b] = await udpPair(ports);
        await a.send(ports[0], "second");
        expect((await b.next()).toString()).toBe("second");
        expect(await dataPath.stats()).toMatchObject({ splices: 1, closed: { "idle-limit": 1 } });
      });

      it("that wait for their peer are forgotten, too", async () => {
        const ports = await oneCell();
        const a = await datagrams(hosts.sides[0]);
        await a.send(ports[0], "hello");
        await events.next({ event: "half", proto: "udp" });
        await events.next({ event: "closed", code: "no-peer-leg", proto: "udp" });
        expect((await dataPath.stats()).halves).toBe(0);
        await udpPair(ports);
      });

      it("count as splices", async () => {
        const ports = await oneCell({ splices: 1 });
        await pair(ports);
        const a = await datagrams(hosts.sides[0]);
        const b = await datagrams(hosts.sides[1]);
        await a.send(ports[0], "hello");
        await events.next({ event: "half", proto: "udp" });
        await b.send(ports[1], "hello");
        await counted(({ dropped }) => expect(dropped["splice-limit"]).toBe(1));
        expect((await dataPath.stats()).splices).toBe(1);
        expect(a.waiting).toBe(0);
      });

      it("above the rate lose datagrams and are not held up", async () => {
        const ports = await oneCell({ bytesPerSecond: 10_000 });
        const [a, b] = await udpPair(ports);
        const sent = 20;
        for (let n = 0; n < sent; n++) await a.send(ports[0], Buffer.alloc(1000, n));
        await counted(({ dropped, bytes }) => expect((dropped.rate ?? 0) * 1000 + bytes).toBe(sent * 1000 + 5));
        const { dropped } = await dataPath.stats();
        expect(dropped.rate).toBeGreaterThanOrEqual(10);
        expect(b.waiting).toBeLessThanOrEqual(sent - 10);
      });

      it("end with their bytes, their time and their cell", async () => {
        const ports = await oneCell({ bytes: 5000 });
        const [a] = await udpPair(ports);
        for (let n = 0; n < 5; n++) await a.send(ports[0], Buffer.alloc(1000));
        await events.next({ event: "closed", code: "byte-limit", proto: "udp" });
        await dataPath.update(ALLOCATION, { limits: { ...NO_LIMITS, totalMs: 100 } });
        await udpPair(ports);
        await events.next({ event: "closed", code: "time-limit", proto: "udp" });
        await dataPath.update(ALLOCATION, { limits: NO_LIMITS });
        await udpPair(ports);
        await dataPath.update(ALLOCATION, { cells: [] });
        await events.next({ event: "closed", code: "released", proto: "udp" });
        expect(await dataPath.stats()).toMatchObject({ cells: 0, splices: 0, halves: 0 });
      });

      it.each([
        ["IPv6 on both sides", [6, 6]],
        ["IPv4 and IPv6", [4, 6]],
      ] as const)("meet over %s", async (_, families) => {
        const { sides6 } = hosts;
        if (!capabilities.ipv6 || !sides6) return;
        const ends = families.map((family, side) => (family === 6 ? sides6 : hosts.sides)[side]!);
        const sources = ends.map(({ address }) => [sourcePrefix(address)]) as [string[], string[]];
        const [cell] = await dataPath.allocate(spec({ sources }));
        const a = await datagrams(ends[0]!);
        const b = await datagrams(ends[1]!);
        await a.send(cell!.ports[0], "hello");
        await events.next({ event: "half" });
        await b.send(cell!.ports[1], "over");
        expect((await a.next()).toString()).toBe("over");
        await a.send(cell!.ports[0], "back");
        expect((await b.next()).toString()).toBe("back");
      });
    });

    describe("a fan-out", () => {
      const CELLS: CellSpec[] = [{ cell: 0, fanout: { receivers: 3 } }];

      // On a slow host as much time passes until all are there.
      beforeAll(() => {
        udpIdleMs = LONG_UDP_IDLE_MS;
      });

      afterAll(() => {
        udpIdleMs = UDP_IDLE_MS;
      });

      /** A cell with its source, and receivers that have got a datagram of it already. */
      async function fanout(receivers: number, [first, second] = hosts.sides) {
        const sources = [[sourcePrefix(first.address)], [sourcePrefix(second.address)]] as const;
        const [cell] = await dataPath.allocate(spec({ cells: CELLS, sources }));
        const { ports } = cell!;
        const source = await datagrams(first);
        await source.send(ports[0], "nobody is there");
        await events.next({ event: "half", side: 0, proto: "udp" });
        const joined: TestDatagrams[] = [];
        while (joined.length < receivers) {
          const receiver = await datagrams(second);
          await receiver.send(ports[1], "me");
          await events.next({ event: "established", proto: "udp" });
          expect((await source.next()).toString()).toBe("me");
          joined.push(receiver);
        }
        return { ports, source, joined };
      }

      it("is there where the driver has it, and is refused elsewhere", async () => {
        if (!capabilities.fanout) {
          await expect(dataPath.allocate(spec({ cells: CELLS }))).rejects.toMatchObject({
            code: "unsupported-rendezvous",
          });
          return;
        }
        const cells = await dataPath.allocate(spec({ cells: CELLS }));
        expect(cells).toEqual([{ ...CELLS[0], ports: [expect.any(Number), expect.any(Number)] }]);
        expect(await dataPath.dump()).toEqual([{ allocation: ALLOCATION, cells, splices: [] }]);
        const changed = await dataPath.update(ALLOCATION, { cells: [...CELLS, { cell: 1 }] });
        expect(changed[0]).toEqual(cells[0]);
        await pair(changed[1]!.ports);
      });

      it("brings what its source sends to all receivers, and what they send to the source", async () => {
        if (!capabilities.fanout) return;
        const { ports, source, joined } = await fanout(3);
        for (const size of [0, 1200, 9000]) {
          const sent = randomBytes(size);
          await source.send(ports[0], sent);
          for (const receiver of joined) expect(await receiver.next()).toEqual(sent);
          await joined[1]!.send(ports[1], sent);
          expect(await source.next()).toEqual(sent);
        }
        // None too many for its neighbours, either.
        for (let n = 0; n < 20; n++) await source.send(ports[0], Buffer.of(n));
        for (const receiver of joined) {
          for (let n = 0; n < 20; n++) expect(await receiver.next()).toEqual(Buffer.of(n));
        }
        expect([source, ...joined].map(({ waiting }) => waiting)).toEqual([0, 0, 0, 0]);
        const [allocation] = await dataPath.dump();
        const { length } = allocation!.splices;
        expect([length, ...allocation!.splices.map(({ bytes }) => bytes[0])]).toEqual([3, 10_220, 10_220, 10_220]);
        expect(await dataPath.stats()).toMatchObject({ splices: 3, udpSplices: 3, halves: 1 });
      });

      it("takes a receiver when there is a source and room, and no second source", async () => {
        if (!capabilities.fanout) return;
        const [first, second] = hosts.sides;
        const [cell] = await dataPath.allocate(spec({ cells: CELLS }));
        const early = await datagrams(second);
        await early.send(cell!.ports[1], "is somebody there?");
        await counted(({ dropped }) => expect(dropped.early).toBe(1));
        await dataPath.release(ALLOCATION, "released");

        const { ports, source, joined } = await fanout(3);
        const late = await datagrams(second);
        await late.send(ports[1], "me too");
        await counted(({ dropped }) => expect(dropped["splice-limit"]).toBe(1));
        const other = await datagrams(first);
        await other.send(ports[0], "I am the source");
        await counted(({ dropped }) => expect(dropped.foreign).toBe(1));
        await source.send(ports[0], "no, I am");
        for (const receiver of joined) expect((await receiver.next()).toString()).toBe("no, I am");
        expect([late, other, early, source].map(({ waiting }) => waiting)).toEqual([0, 0, 0, 0]);
      });

      describe("of short patience", () => {
        beforeAll(() => {
          udpIdleMs = UDP_IDLE_MS;
        });

        afterAll(() => {
          udpIdleMs = LONG_UDP_IDLE_MS;
        });

        it("ends with its source's silence or its cell, and has room again when a receiver is silent", async () => {
          if (!capabilities.fanout) return;
          const { ports, source } = await fanout(1);
          await events.next({ event: "closed", code: "idle-limit", proto: "udp" });
          await vi.waitFor(async () => expect(await dataPath.stats()).toMatchObject({ splices: 0, halves: 0 }), 10_000);
          await source.send(ports[0], "again");
          await events.next({ event: "half", side: 0, proto: "udp" });
          const receiver = await datagrams(hosts.sides[1]);
          await receiver.send(ports[1], "me");
          await events.next({ event: "established", proto: "udp" });
          await source.send(ports[0], "welcome");
          expect((await receiver.next()).toString()).toBe("welcome");
          await dataPath.update(ALLOCATION, { cells: [] });
          await events.next({ event: "closed", code: "released", proto: "udp", splice: undefined });
          await vi.waitFor(async () => expect(await dataPath.stats()).toMatchObject({ splices: 0, halves: 0 }), 10_000);
        });
      });

      it("goes over IPv6", async () => {
        const { sides6 } = hosts;
        if (!capabilities.fanout || !capabilities.ipv6 || !sides6) return;
        const { ports, source, joined } = await fanout(2, sides6);
        for (let n = 0; n < 20; n++) await source.send(ports[0], Buffer.of(n));
        for (const receiver of joined) {
          for (let n = 0; n < 20; n++) expect(await receiver.next()).toEqual(Buffer.of(n));
        }
      });
    });
  });
}

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Legs of strangers: refused, or packets dropped in silence. */
function strangers({ closed, dropped }: DataPathStats): number {
  return (closed.stranger ?? 0) + (dropped.stranger ?? 0);
}

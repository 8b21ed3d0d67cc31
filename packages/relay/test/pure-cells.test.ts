import { join } from "node:path";
import {
  type AllocationSpec,
  type AllocationUpdate,
  type CellPorts,
  type CellSpec,
  type DataPath,
  SocketSplicer,
} from "@isthmus/datapath";
import { type Code, IsthmusError, LIMITS, type Side } from "@isthmus/protocol";
import { createIdentity, silentLogger } from "@isthmus/service";
import { openStore } from "@isthmus/store";
import fc from "fast-check";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { Allocations } from "../src/allocations/allocations.ts";
import { LearnedPorts } from "../src/allocations/learned-ports.ts";
import { learnedFor, withPureCells } from "../src/allocations/pure-cells.ts";
import type { AllocationRecord } from "../src/allocations/record.ts";
import { DaemonContext, type DaemonSession } from "../src/daemons/daemon-session.ts";
import { temporaryFolder } from "./world.ts";

const REST: CellPorts[] = [0, 1].map((cell) => ({ cell, ports: [20_000 + 2 * cell, 20_001 + 2 * cell] }));
const ALL = { agreed: true, learned: true };
const NO_LIMITS = { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: 3500 };

describe("the pure cells of an allocation", () => {
  const kinds = (keeps: [boolean, boolean], opener: Side) =>
    withPureCells(REST, keeps, ALL)
      .filter(({ cell, pure }) => pure && cell % 2 === opener)
      .map(({ pure }) => pure);

  it.each([
    ["no side", [false, false], [[], []]],
    ["side 0", [true, false], [[{ learns: 1 }], [{ learns: 1 }]]],
    ["side 1", [false, true], [[{ learns: 0 }], [{ learns: 0 }]]],
    [
      "both",
      [true, true],
      [
        [{}, { learns: 0 }],
        [{}, { learns: 1 }],
      ],
    ],
  ] as const)("are those that can be where %s keeps ports, for each opener", (_, [a, b], expected) => {
    expect([kinds([a, b], 0), kinds([a, b], 1)]).toEqual(expected);
  });

  it("are those that the IST offers", () => {
    const agreed = withPureCells(REST, [true, true], { agreed: true, learned: false });
    expect(agreed.flatMap(({ pure }) => (pure ? [pure] : []))).toEqual([{}, {}]);
    expect(withPureCells(agreed as CellPorts[], [true, true], { agreed: false, learned: false })).toEqual(REST);
  });

  const keeps = fc.tuple(fc.boolean(), fc.boolean());
  const pure = fc.constantFrom<CellPorts["pure"]>(undefined, {}, { learns: 0 }, { learns: 1 });
  const anyCells = fc
    .uniqueArray(fc.record({ cell: fc.nat(LIMITS.cellsPerAllocation - 1), pure }), {
      selector: ({ cell }) => cell,
      maxLength: LIMITS.cellsPerAllocation,
    })
    .map((cells): CellPorts[] => cells.map((cell) => ({ ...cell, ports: [1, 2] })));

  it("follow the sides from network to network: what can still be stays, and nothing is asked for twice", () => {
    fc.assert(
      fc.property(anyCells, keeps, (before, sides) => {
        const after = withPureCells(before, sides, ALL);
        const numbers = after.map(({ cell }) => cell);
        expect(new Set(numbers).size).toBe(numbers.length);
        expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
        for (const passive of before.filter((cell) => !cell.pure)) expect(after).toContain(passive);
        for (const { pure } of after) {
          if (!pure) continue;
          const chooses: Side[] = pure.learns === undefined ? [0, 1] : [pure.learns === 0 ? 1 : 0];
          expect(chooses.every((side) => sides[side])).toBe(true);
        }
        expect(withPureCells(after as CellPorts[], sides, ALL)).toEqual(after);
      }),
    );
  });

  it("learn the opener's port if they can: the word of it is as fast as that of the open", () => {
    expect(learnedFor(0, [true, true])).toEqual({ learns: 0 });
    expect(learnedFor(1, [true, true])).toEqual({ learns: 1 });
    expect(learnedFor(0, [true, false])).toEqual({ learns: 1 });
    expect(learnedFor(0, [false, false])).toBeUndefined();
  });
});

describe("ports that are learned", () => {
  it("are left alone for ten minutes when three allocations in a row were not met there", () => {
    const ports = new LearnedPorts();
    expect(["x", "x", "y", "z", "v"].map((one) => ports.missed(one, 0))).toEqual([false, false, false, true, false]);
    expect([ports.isOff(0), ports.isOff(599_999), ports.isOff(600_000)]).toEqual([true, true, false]);
    ports.met();
    expect(ports.isOff(0)).toBe(false);
  });
});

/** A data path as far as cells and ports go: those of the kernel cannot run everywhere. */
class CellBook implements DataPath {
  readonly cells = new Map<string, CellPorts[]>();
  readonly learned: [cell: number, port: number][] = [];
  refusal: Code | undefined;
  readonly problem = undefined;
  #port = 20_000;

  async open(): Promise<never> {
    throw new Error("it is open");
  }

  async allocate({ allocation, cells }: AllocationSpec): Promise<CellPorts[]> {
    const made = cells.map((cell) => this.#cell(cell));
    this.cells.set(allocation, made);
    return made;
  }

  async update(allocation: string, { cells }: AllocationUpdate): Promise<CellPorts[]> {
    const before = this.cells.get(allocation)!;
    if (cells) {
      const after = cells.map((spec) => before.find(({ cell }) => cell === spec.cell) ?? this.#cell(spec));
      this.cells.set(allocation, after);
    }
    return this.cells.get(allocation)!;
  }

  async learn(_allocation: string, cell: number, port: number): Promise<void> {
    if (this.refusal) throw new IsthmusError(this.refusal);
    this.learned.push([cell, port]);
  }

  async release(allocation: string): Promise<void> {
    this.cells.delete(allocation);
  }

  async dump() {
    return [];
  }

  async stats(): Promise<never> {
    throw new Error("nothing is counted");
  }

  async close(): Promise<void> {}

  #cell({ cell, pure, ports }: CellSpec): CellPorts {
    const [a, b] = ports ?? [this.#port++, this.#port++];
    if (!pure) return { cell, ports: [a, b] };
    return { cell, pure, ports: [pure.learns === 1 ? 0 : a, pure.learns === 0 ? 0 : b] };
  }
}

/** What a session was told. */
interface Told {
  type: string;
  body: Record<string, unknown>;
}

describe("an IST whose data path passes ports unchanged", () => {
  const [a, b] = [createIdentity().publicKey, createIdentity().publicKey].sort() as [string, string];

  async function setUp(options: { pure?: boolean } = {}) {
    const book = new CellBook();
    const refused: Code[] = [];
    const store = await openStore(join(temporaryFolder(), "store"), { logger: silentLogger() });
    const allocations = new Allocations({
      settings: { joinMs: 60_000, goneMs: 60_000, most: 10 },
      cellsAnswerMs: 1000,
      dataPath: book,
      pure: options.pure ?? true,
      splicer: new SocketSplicer(),
      store,
      logger: silentLogger(),
      onFreed: () => undefined,
      onChange: () => undefined,
      countRefused: (code) => refused.push(code),
    });
    onTestFinished(async () => {
      await allocations.stop();
      await store.close();
    });
    const record = await allocations.allocate("broker", [a, b], NO_LIMITS);
    return { book, refused, allocations, record };
  }

  function session(key: string, address = "192.0.2.1"): { session: DaemonSession; told: Told[] } {
    const told: Told[] = [];
    const tell = (type: string, body: Record<string, unknown>): void => void told.push({ type, body });
    const request = async (type: string, body: Record<string, unknown>): Promise<object> => {
      tell(type, body);
      return {};
    };
    const fake = { key, address, context: new DaemonContext(), request, event: tell };
    return { session: fake as unknown as DaemonSession, told };
  }

  function joinAs(allocations: Allocations, record: AllocationRecord, one: DaemonSession, keepsPorts: boolean) {
    const { ticket } = record.shares[one.key === a ? 0 : 1]!;
    return allocations.join(one, record.allocation, ticket, keepsPorts);
  }

  it("grants them when both have joined, to the first before it hears of the second", async () => {
    const { allocations, record } = await setUp();
    const [first, second] = [session(a), session(b)];
    expect((await joinAs(allocations, record, first.session, true)).cells).toHaveLength(2);
    const { cells } = await joinAs(allocations, record, second.session, true);
    expect(first.told.map(({ type }) => type)).toEqual(["cells", "peer"]);
    const mine = first.told[0]!.body.cells as typeof cells;
    expect(mine.map(({ cell }) => cell)).toEqual(cells.map(({ cell }) => cell));
    const pairs = mine.flatMap((cell, index) => (cell.pure ? [[cell, cells[index]!]] : []));
    expect(pairs).toHaveLength(4);
    for (const [ours, theirs] of pairs) {
      // A side's source port is where the other side's legs go; 0 and none are one that is learned.
      expect(ours!.pure!.source ?? 0).toBe(theirs!.port);
      expect(theirs!.pure!.source ?? 0).toBe(ours!.port);
    }
  });

  it.each([
    ["neither NAT keeps ports", { keeps: [false, false] }],
    ["the operator forbids them", { pure: false }],
    ["both daemons run on the IST's own host", { address: "127.0.0.1" }],
  ] as const)(
    "grants none where %s",
    async (_, {
      keeps = [true, true],
      pure = true,
      address = "192.0.2.1",
    }: {
      keeps?: readonly [boolean, boolean];
      pure?: boolean;
      address?: string;
    }) => {
      const { allocations, record } = await setUp({ pure });
      await joinAs(allocations, record, session(a, address).session, keeps[0]);
      const { cells } = await joinAs(allocations, record, session(b, address).session, keeps[1]);
      expect(cells.filter((cell) => cell.pure)).toEqual([]);
      expect(cells).toHaveLength(2);
    },
  );

  it("tells the other side the port of a leg that waits, when its own legs may go there", async () => {
    const { allocations, book, record, refused } = await setUp();
    const [first, second] = [session(a), session(b)];
    await joinAs(allocations, record, first.session, false);
    const { cells } = await joinAs(allocations, record, second.session, true);
    const { cell } = cells.find((one) => one.pure)!;
    const { allocation } = record;
    const half = { event: "half", allocation, cell, proto: "tcp", side: 0 } as const;
    const source = (port: number) => ({ host: "192.0.2.1", port });
    allocations.dataPathEvent({ ...half, source: source(5000) });
    allocations.dataPathEvent({ ...half, side: 1, source: source(5001) });
    allocations.dataPathEvent({ ...half, cell: 0, source: source(5002) });
    allocations.dataPathEvent({ ...half, proto: "udp", source: source(5003) });
    allocations.dataPathEvent({ ...half, source: source(5004) });
    const halves = () => second.told.filter(({ type }) => type === "half").map(({ body }) => body);
    await vi.waitFor(() => expect(halves()).toHaveLength(2));
    expect(book.learned).toEqual([
      [cell, 5000],
      [cell, 5004],
    ]);
    expect(halves()).toEqual([5000, 5004].map((port) => ({ allocation, cell, port })));
    book.refusal = "conflict";
    allocations.dataPathEvent({ ...half, source: source(22) });
    await vi.waitFor(() => expect(halves()).toHaveLength(3));
    expect(halves()[2]).toEqual({ allocation, cell });
    expect(refused).toEqual(["conflict"]);
    expect(first.told.some(({ type }) => type === "half")).toBe(false);
  });

  it("offers cells that learn to no further pair when those of three pairs were missed, and again when one was met", async () => {
    const { allocations, book } = await setUp();
    const address = "192.0.2.1";
    /** A pair of daemons whose first leg waits at a cell that learns. */
    const join = async () => {
      const keys = [createIdentity().publicKey, createIdentity().publicKey].sort() as [string, string];
      const record = await allocations.allocate("broker", keys, NO_LIMITS);
      for (const [side, keepsPorts] of [false, true].entries()) {
        const { ticket } = record.shares[side]!;
        await allocations.join(session(keys[side]!).session, record.allocation, ticket, keepsPorts);
      }
      const { allocation } = record;
      const cell = book.cells.get(allocation)!.find(({ pure }) => pure)?.cell;
      const at = { allocation, cell: cell ?? -1, proto: "tcp" } as const;
      const half = async () => {
        const before = book.learned.length;
        allocations.dataPathEvent({ ...at, event: "half", side: 0, source: { host: address, port: 5000 } });
        await vi.waitFor(() => expect(book.learned.length).toBe(before + 1));
      };
      const miss = async () => {
        await half();
        allocations.dataPathEvent({ ...at, event: "closed", code: "no-peer-leg" });
      };
      const meet = async () => {
        await half();
        allocations.dataPathEvent({ ...at, event: "paired", splice: 1 });
      };
      return { learns: cell !== undefined, miss, meet };
    };
    const pairs = [await join(), await join(), await join()];
    for (const { miss } of pairs) await miss();
    expect((await join()).learns).toBe(false);
    await pairs[0]!.meet();
    const next = await join();
    expect(next.learns).toBe(true);
    // However often one pair does not meet: it is perhaps its NATs.
    for (let leg = 0; leg < 5; leg++) await next.miss();
    expect((await join()).learns).toBe(true);
  });

  it("grows by cells of the kind that is asked for, and keeps a passive one for each opener", async () => {
    const { allocations, record } = await setUp();
    const first = session(a);
    await joinAs(allocations, record, first.session, true);
    await joinAs(allocations, record, session(b).session, true);
    const { allocation } = record;
    const before = allocations.get(allocation)!.cells.length;
    const grown = await allocations.grow(first.session, allocation, 2, true);
    const added = grown.slice().filter(({ cell }) => cell % 2 === 0 && cell > 4);
    expect(grown).toHaveLength(before + 2);
    expect(added.map(({ pure }) => pure)).toEqual([{}, {}]);
    const more = await allocations.grow(first.session, allocation, 1, false);
    const passive = more.filter(({ cell, pure }) => cell % 2 === 0 && !pure).map(({ cell }) => cell);
    expect(passive).toHaveLength(2);
    const own = more.filter(({ cell }) => cell % 2 === 0).map(({ cell }) => cell);
    await allocations.shrink(first.session, allocation, own);
    const left = allocations.get(allocation)!.cells.filter(({ cell }) => cell % 2 === 0);
    expect(left.map(({ cell, pure }) => [cell, pure])).toEqual([[passive[0], undefined]]);
  });

  it("takes them back when a side comes again from where ports are changed", async () => {
    const { allocations, record, book } = await setUp();
    const first = session(a);
    await joinAs(allocations, record, first.session, false);
    await joinAs(allocations, record, session(b).session, true);
    expect(book.cells.get(record.allocation)!.some(({ pure }) => pure)).toBe(true);
    first.told.splice(0);
    const { cells } = await joinAs(allocations, record, session(b).session, false);
    expect(cells.some(({ pure }) => pure)).toBe(false);
    expect(first.told[0]).toMatchObject({ type: "cells", body: { cells: [{ cell: 0 }, { cell: 1 }] } });
  });
});

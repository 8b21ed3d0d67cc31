import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CellPool } from "../src/index.ts";

const HALF_MS = 3500;
const IDLE_MS = 30_000;
/** An IST forgets a pair of UDP legs after a minute. */
const UDP_PAIR_MS = 60_000;

const cells = (...numbers: number[]) => numbers.map((cell) => ({ cell, port: 20_000 + cell }));

type Step =
  | { do: "take"; proto: "tcp" | "udp" }
  | { do: "give"; which: number; failed: boolean }
  | { do: "update"; cells: number[] }
  | { do: "retire" }
  | { do: "wait"; ms: number };

const proto = fc.constantFrom<("tcp" | "udp")[]>("tcp", "udp");
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("take" as const), proto }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("give" as const), which: fc.nat(), failed: fc.boolean() }) },
  fc.record({
    do: fc.constant("update" as const),
    cells: fc.uniqueArray(fc.integer({ min: 0, max: 15 }), { minLength: 1, maxLength: 10 }),
  }),
  fc.record({ do: fc.constant("retire" as const) }),
  { weight: 2, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 40_000 }) }) },
);

describe("cells", () => {
  it("go to one open at a time, never to another's remains, and are always this side's and known", () => {
    fc.assert(
      fc.property(fc.constantFrom<(0 | 1)[]>(0, 1), fc.array(step, { maxLength: 80 }), (side, steps) => {
        const pool = new CellPool(side, HALF_MS);
        let now = 0;
        let known = new Set<number>();
        const out: { cell: number; proto: "tcp" | "udp" }[] = [];
        const notBefore = { tcp: new Map<number, number>(), udp: new Map<number, number>() };
        for (const one of steps) {
          switch (one.do) {
            case "wait":
              now += one.ms;
              break;
            case "update":
              for (const cell of known) {
                if (one.cells.includes(cell)) continue;
                notBefore.tcp.delete(cell);
                notBefore.udp.delete(cell);
              }
              known = new Set(one.cells);
              pool.update(cells(...one.cells));
              // An open whose cell is gone has nothing to give back.
              for (const held of [...out]) if (!known.has(held.cell)) out.splice(out.indexOf(held), 1);
              break;
            case "give": {
              const [held] = out.splice(one.which % Math.max(1, out.length), 1);
              if (!held) break;
              pool.give(held.cell, held.proto, now, one.failed);
              if (held.proto === "udp") notBefore.udp.set(held.cell, now + UDP_PAIR_MS);
              else if (one.failed) notBefore.tcp.set(held.cell, now + HALF_MS);
              break;
            }
            case "retire": {
              const own = [...known].filter((cell) => cell % 2 === side);
              const retired = pool.retireIdle(now);
              for (const cell of retired) {
                expect(out.some((held) => held.cell === cell)).toBe(false);
                known.delete(cell);
              }
              if (own.length > 0) expect(retired.length).toBeLessThan(own.length);
              // The IST agrees.
              pool.update(cells(...known));
              break;
            }
            case "take": {
              const cell = pool.take(one.proto, now);
              if (cell === undefined) break;
              expect(cell % 2).toBe(side);
              expect(known.has(cell)).toBe(true);
              expect(pool.get(cell)?.port).toBe(20_000 + cell);
              expect(out).not.toContainEqual({ cell, proto: one.proto });
              expect(now).toBeGreaterThanOrEqual(notBefore[one.proto].get(cell) ?? 0);
              out.push({ cell, proto: one.proto });
              break;
            }
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  it("rest longest before they are taken again, so that source ports spread", () => {
    const pool = new CellPool(0, HALF_MS);
    pool.update(cells(0, 2, 4));
    const taken = [1, 2, 3, 4, 5, 6].map((n) => {
      const cell = pool.take("tcp", n)!;
      pool.give(cell, "tcp", n, false);
      return cell;
    });
    expect(taken).toEqual([0, 2, 4, 0, 2, 4]);
  });

  it("serve TCP and UDP apart", () => {
    const pool = new CellPool(1, HALF_MS);
    pool.update(cells(0, 1));
    expect(pool.take("tcp", 0)).toBe(1);
    expect(pool.take("udp", 0)).toBe(1);
    expect(pool.take("tcp", 0)).toBeUndefined();
  });

  it("grow by as many as there are, to 64 for each side", () => {
    const pool = new CellPool(0, HALF_MS);
    expect(pool.wanted(false)).toBe(1);
    pool.update(cells(0, 2, 4));
    expect(pool.wanted(false)).toBe(3);
    pool.update(cells(...Array.from({ length: 60 }, (_, n) => 2 * n)));
    expect(pool.wanted(false)).toBe(4);
    pool.update(cells(...Array.from({ length: 64 }, (_, n) => 2 * n)));
    expect(pool.wanted(false)).toBe(0);
  });

  it("are given back when nobody used them for long, but for one, and are not taken on their way", () => {
    const pool = new CellPool(0, HALF_MS);
    pool.update(cells(0, 2, 4, 1));
    expect(pool.take("tcp", 1)).toBe(0);
    expect(pool.take("tcp", 1)).toBe(2);
    pool.give(2, "tcp", 1, true);
    expect(pool.retireIdle(IDLE_MS)).toEqual([]);
    expect(pool.retireIdle(IDLE_MS + 2)).toEqual([2, 4]);
    expect(pool.take("tcp", IDLE_MS + 3)).toBeUndefined();
    pool.give(0, "tcp", IDLE_MS + 3, false);
    expect(pool.retireIdle(10 * IDLE_MS)).toEqual([]);
  });
});

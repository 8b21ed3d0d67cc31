import type { Code, Side } from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AllocationTable, type TableCommand } from "../src/allocations/allocation-table.ts";

const SETTINGS = { joinMs: 30_000, goneMs: 60_000, most: 4 };
const BROKERS = ["isb-a", "isb-b"] as const;
const PAIRS = [
  ["k1", "k2"],
  ["k1", "k3"],
  ["k2", "k3"],
] as const;

type Step = { afterMs: number } & (
  | { do: "ask" | "restore" | "release"; broker: number; pair: number }
  | { do: "join" | "leave"; pick: number; side: Side }
  | { do: "expire" }
);

const afterMs = fc.oneof(fc.constant(0), fc.nat({ max: 5000 }), fc.nat({ max: 70_000 }));
const pick = { broker: fc.nat({ max: 1 }), pair: fc.nat({ max: 2 }) };
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    afterMs,
    do: fc.constantFrom("ask" as const, "ask" as const, "restore" as const, "release" as const),
    ...pick,
  }),
  fc.record({
    afterMs,
    do: fc.constantFrom("join" as const, "join" as const, "leave" as const),
    pick: fc.nat({ max: 5 }),
    side: fc.constantFrom(0 as const, 1 as const),
  }),
  fc.record({ afterMs, do: fc.constant("expire" as const) }),
);

/** What the table is expected to know of an allocation, kept in the plainest way. */
interface Known {
  id: string;
  broker: string;
  sides: readonly [string, string];
  joinBy: number;
  present: [boolean, boolean];
  ever: [boolean, boolean];
  away: [number, number];
  /** What each side was last told of its peer, since it joined. */
  told: [boolean, boolean];
}

describe("the allocation table", () => {
  it("frees each allocation once, at its time and not before, whatever happens", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const table = new AllocationTable(SETTINGS);
        const living = new Map<string, Known>();
        let now = 0;
        let ids = 0;

        const endOf = ({ ever, present, joinBy, away }: Known): [number, Code] => {
          if (!ever[0] || !ever[1]) return [joinBy, "not-joined"];
          const ends = ([0, 1] as const).filter((side) => !present[side]).map((side) => away[side] + SETTINGS.goneMs);
          return [Math.min(...ends), "silent"];
        };
        const apply = (commands: TableCommand[]): void => {
          for (const command of commands) {
            const known = living.get(command.allocation)!;
            expect(known).toBeDefined();
            if (command.do === "free") living.delete(command.allocation);
            else {
              expect(known.present[command.side]).toBe(true);
              expect(command.joined).not.toBe(known.told[command.side]);
              known.told[command.side] = command.joined;
            }
          }
        };
        const add = (id: string, broker: string, sides: readonly [string, string], ms: number): void => {
          living.set(id, {
            id,
            broker,
            sides,
            joinBy: now + ms,
            present: [false, false],
            ever: [false, false],
            away: [now, now],
            told: [false, false],
          });
        };

        for (const what of steps) {
          now += what.afterMs;
          if (what.do === "ask" || what.do === "restore" || what.do === "release") {
            const broker = BROKERS[what.broker]!;
            const sides = PAIRS[what.pair]!;
            const same = [...living.values()].find((known) => known.broker === broker && known.sides === sides);
            if (what.do === "release") {
              if (same) {
                const id = same.id;
                const commands = table.release(id, "released");
                expect(commands).toEqual([{ do: "free", allocation: id, code: "released" }]);
                apply(commands);
              } else expect(table.release("nobody", "released")).toEqual([]);
            } else if (what.do === "restore") {
              if (!same && living.size < SETTINGS.most) {
                const id = `id-${ids++}`;
                table.restore(id, broker, sides, now);
                add(id, broker, sides, SETTINGS.goneMs);
              }
            } else if (!same && living.size === SETTINGS.most) {
              expect(() => table.ask(broker, sides, "none", now)).toThrow("cannot take another");
            } else {
              const id = `id-${ids++}`;
              const answer = table.ask(broker, sides, id, now);
              expect(answer).toEqual(same ? { id: same.id, isNew: false } : { id, isNew: true });
              if (!same) add(id, broker, sides, SETTINGS.joinMs);
            }
          } else if (what.do === "expire") {
            const due = [...living.values()].filter((known) => endOf(known)[0] <= now);
            const expected = due.map((known) => ({ do: "free", allocation: known.id, code: endOf(known)[1] }));
            const commands = table.expire(now);
            expect(commands).toEqual(expected);
            apply(commands);
          } else if ("pick" in what) {
            const known = [...living.values()][what.pick];
            if (!known) continue;
            const { id, present, ever, away, told } = known;
            const { side } = what;
            const other = side === 0 ? 1 : 0;
            if (what.do === "join") {
              const commands = table.join(id, side);
              expect(commands.length).toBe(!present[side] && present[other] ? 1 : 0);
              present[side] = true;
              ever[side] = true;
              // The answer to the join tells it.
              told[side] = present[other];
              expect(table.hasJoined(id, other)).toBe(present[other]);
              apply(commands);
            } else {
              if (present[side]) away[side] = now;
              const commands = table.leave(id, side, now);
              expect(commands.length).toBe(present[side] && present[other] ? 1 : 0);
              present[side] = false;
              apply(commands);
            }
          }
          expect(table.size).toBe(living.size);
          expect(table.room).toBe(SETTINGS.most - living.size);
          for (const key of ["k1", "k2", "k3"]) {
            expect(table.concerns(key)).toBe([...living.values()].some(({ sides }) => sides.includes(key)));
          }
          for (const broker of BROKERS) {
            const own = [...living.values()].filter((known) => known.broker === broker);
            expect([...table.of(broker)]).toEqual(own.map(({ id, sides }) => ({ allocation: id, sides: [...sides] })));
          }
          for (const { id, present } of living.values()) {
            expect(table.has(id)).toBe(true);
            expect([table.hasJoined(id, 0), table.hasJoined(id, 1)]).toEqual(present);
          }
        }
        // With nobody there nothing lives for ever.
        for (const { id } of [...living.values()]) {
          apply(table.leave(id, 0, now));
          apply(table.leave(id, 1, now));
        }
        apply(table.expire(now + SETTINGS.goneMs));
        expect(table.size).toBe(0);
      }),
      { numRuns: 500 },
    );
  });
});

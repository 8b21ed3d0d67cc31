import { chooseIst } from "@isthmus/broker";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

const idle = { key: "a", draining: false, allocations: 0, room: 10 };
const nobody: ReadonlySet<string> = new Set();

describe("of several ISTs", () => {
  test("the one with the smallest share of its room in use is chosen, whatever its size", () => {
    const small = { ...idle, key: "small", allocations: 1, room: 9 };
    const large = { ...idle, key: "large", allocations: 50, room: 9950 };
    expect(chooseIst([small, large], nobody)).toBe(large);
  });

  test("the first by key is chosen where all are equal, in whatever order they stand", () => {
    const [a, b, c] = [idle, { ...idle, key: "b" }, { ...idle, key: "c" }];
    expect(chooseIst([c, a, b], nobody)).toBe(a);
    expect(chooseIst([b, c, a], nobody)).toBe(a);
  });

  test("none is chosen that drains, is full, or is to be avoided", () => {
    const draining = { ...idle, key: "1", draining: true };
    const full = { ...idle, key: "2", allocations: 10, room: 0 };
    const avoided = { ...idle, key: "3" };
    const busy = { ...idle, key: "4", allocations: 9, room: 1 };
    expect(chooseIst([draining, full, avoided, busy], new Set(["3"]))).toBe(busy);
    expect(chooseIst([draining, full, avoided], new Set(["3"]))).toBeUndefined();
    expect(chooseIst([], nobody)).toBeUndefined();
  });

  test("the choice is usable, and nothing usable is less loaded", () => {
    const candidate = fc.record({
      key: fc.stringMatching(/^[a-d]{1,2}$/),
      draining: fc.boolean(),
      allocations: fc.nat(5),
      room: fc.nat(5),
    });
    fc.assert(
      fc.property(fc.array(candidate), fc.uniqueArray(fc.stringMatching(/^[a-d]{1,2}$/)), (candidates, avoided) => {
        const avoid = new Set(avoided);
        const usable = candidates.filter(({ key, draining, room }) => !draining && room > 0 && !avoid.has(key));
        const chosen = chooseIst(candidates, avoid);
        expect(chosen === undefined).toBe(usable.length === 0);
        if (!chosen) return;
        expect(usable).toContain(chosen);
        const load = ({ allocations, room }: typeof chosen) => allocations / (allocations + room);
        for (const other of usable) expect(load(chosen)).toBeLessThanOrEqual(load(other));
      }),
    );
  });
});

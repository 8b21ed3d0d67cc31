import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EpochClock, natPmpEpochHolds, pcpEpochHolds } from "../src/port-control/epoch.ts";

const at = (epoch: number, seconds: number) => ({ epoch, atMs: seconds * 1000 });

describe("RFC 6887, 8.5", () => {
  it.each([
    ["as it should be", 1000, 1100, 100, true],
    ["back by a second", 1000, 999, 0, true],
    ["back by two", 1000, 998, 0, false],
    ["slow by a sixteenth", 0, 939, 1000, true],
    ["slower", 0, 935, 1000, false],
    ["fast by a sixteenth", 0, 1066, 1000, true],
    ["faster", 0, 1070, 1000, false],
    ["two seconds late at once", 100, 100, 2, true],
    ["three seconds late at once", 100, 100, 3.2, false],
    ["from zero", 100_000, 0, 5, false],
    ["on, but for less than we waited", 100, 130, 3600, false],
  ])("%s: %d to %d in %d s: %s", (_, before, now, elapsed, holds) => {
    expect(pcpEpochHolds(at(before, 50), at(now, 50 + elapsed))).toBe(holds);
  });
});

describe("RFC 6886, 3.6", () => {
  it.each([
    [1000, 1100, 100, true],
    [1000, 998, 0, true],
    [1000, 997, 0, false],
    [0, 873, 1000, true],
    [0, 872, 1000, false],
    [0, 5000, 1000, true],
    [100_000, 3, 5, false],
  ])("%d to %d in %d s: %s", (before, now, elapsed, holds) => {
    expect(natPmpEpochHolds(at(before, 50), at(now, 50 + elapsed))).toBe(holds);
  });
});

describe.each([
  ["PCP", pcpEpochHolds],
  ["NAT-PMP", natPmpEpochHolds],
] as const)("the clock of %s", (_, rule) => {
  const readings = fc.array(fc.record({ afterS: fc.nat(100_000), late: fc.nat(1) }), { maxLength: 50 });

  it("of a gateway that lives on never shows a restart, though answers come a second late", () => {
    fc.assert(
      fc.property(fc.nat(1_000_000), readings, (start, steps) => {
        let seconds = 0;
        let now = 0;
        const clock = new EpochClock(rule, () => now * 1000);
        expect(clock.hear(start)).toBe(true);
        for (const { afterS, late } of steps) {
          seconds += afterS;
          now = seconds + late;
          expect(clock.hear(start + seconds)).toBe(true);
        }
      }),
    );
  });

  it("of a gateway that started anew shows it, once, whenever it had run for longer than it was away", () => {
    fc.assert(
      fc.property(fc.integer({ min: 10, max: 1_000_000 }), fc.integer({ min: 0, max: 1_000_000 }), (ran, afterS) => {
        let now = 0;
        const clock = new EpochClock(rule, () => now * 1000);
        clock.hear(ran + afterS + 10);
        now = afterS;
        expect(clock.hear(Math.floor(afterS / 2))).toBe(false);
        expect(clock.hear(Math.floor(afterS / 2))).toBe(true);
        clock.reset();
        expect(clock.hear(0)).toBe(true);
      }),
    );
  });
});

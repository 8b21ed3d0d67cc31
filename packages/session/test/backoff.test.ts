import { BACKOFF_TO_ISB, BACKOFF_TO_IST, Backoff } from "@isthmus/session";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const LARGEST = (): number => 1 - Number.EPSILON;

/** The ceilings of attempts that fail at once, one after the other. */
function ceilings(backoff: Backoff, attempts: number, now: number): number[] {
  return Array.from({ length: attempts }, () => backoff.next(now) + 1);
}

it.each([
  ["an ISB", BACKOFF_TO_ISB, [200, 400, 800, 1600, 3200, 4000, 4000]],
  ["an IST", BACKOFF_TO_IST, [200, 400, 800, 1000, 1000, 1000, 1000]],
])("ceilings towards %s double up to the highest", (_, options, expected) => {
  expect(ceilings(new Backoff(options, LARGEST), 7, 0)).toEqual(expected);
});

it("after a long outage the ceiling rises to the longest", () => {
  const backoff = new Backoff(BACKOFF_TO_ISB, LARGEST);
  ceilings(backoff, 6, 1_000_000);
  expect(ceilings(backoff, 1, 1_000_000 + BACKOFF_TO_ISB.longAfterMs - 1)).toEqual([4000]);
  expect(ceilings(backoff, 5, 1_000_000 + BACKOFF_TO_ISB.longAfterMs)).toEqual([4000, 8000, 16_000, 30_000, 30_000]);
});

it("a refusal for good means the longest at once, and only as long as it lasts", () => {
  const backoff = new Backoff(BACKOFF_TO_ISB, LARGEST);
  expect(backoff.next(0, true) + 1).toBe(30_000);
  expect(backoff.next(0, false) + 1).toBeLessThanOrEqual(4000);
});

it("a session that came up begins a new outage with the first ceiling", () => {
  const backoff = new Backoff(BACKOFF_TO_ISB, LARGEST);
  ceilings(backoff, 9, 0);
  backoff.reset();
  expect(ceilings(backoff, 2, BACKOFF_TO_ISB.longAfterMs)).toEqual([200, 400]);
});

describe("whatever happens, a waiting time", () => {
  const anyStep = fc.record({ afterMs: fc.nat(60_000), hopeless: fc.boolean(), up: fc.boolean() });

  it("is a whole number from 0 to below the ceiling that holds then", () => {
    fc.assert(
      fc.property(fc.array(anyStep), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (steps, random) => {
        const { mostMs, longMs, longAfterMs } = BACKOFF_TO_ISB;
        const backoff = new Backoff(BACKOFF_TO_ISB, () => random);
        let now = 0;
        let since: number | undefined;
        for (const { afterMs, hopeless, up } of steps) {
          now += afterMs;
          if (up) {
            backoff.reset();
            since = undefined;
          }
          since ??= now;
          const waitMs = backoff.next(now, hopeless);
          const most = hopeless || now - since >= longAfterMs ? longMs : mostMs;
          expect(Number.isInteger(waitMs)).toBe(true);
          expect(waitMs).toBeGreaterThanOrEqual(0);
          expect(waitMs).toBeLessThan(most);
        }
      }),
    );
  });

  it("is spread over the whole range, so that a crowd does not come back at once", () => {
    const waits = Array.from({ length: 1000 }, () => {
      const backoff = new Backoff(BACKOFF_TO_ISB);
      for (let i = 0; i < 6; i++) backoff.next(0);
      return backoff.next(0);
    });
    const quarters = [0, 1, 2, 3].map((q) => waits.filter((ms) => Math.floor(ms / 1000) === q).length);
    // 250 expected in each; 150 is more than seven standard deviations away.
    for (const count of quarters) expect(count).toBeGreaterThan(150);
  });
});

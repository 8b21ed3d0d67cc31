import { TokenBuckets } from "@isthmus/session";
import fc from "fast-check";
import { expect, it } from "vitest";

const RATE = { perSecond: 2, burst: 5 };

it("a burst is free, then each token takes its time, and the wait that is told is the right one", () => {
  const buckets = new TokenBuckets(RATE);
  expect(Array.from({ length: 6 }, () => buckets.take("a", 0))).toEqual([0, 0, 0, 0, 0, 500]);
  expect(buckets.take("a", 250)).toBe(250);
  expect(buckets.take("a", 500)).toBe(0);
  expect(buckets.take("b", 500)).toBe(0);
});

it("asking while there is none does not put the next one off", () => {
  const buckets = new TokenBuckets(RATE);
  for (let i = 0; i < 5; i++) buckets.take("a", 0);
  for (let now = 0; now < 500; now += 7) expect(buckets.take("a", now)).toBeGreaterThan(0);
  expect(buckets.take("a", 501)).toBe(0);
});

it("never gives more than burst and rate allow over any time, and never less to who waits as told", () => {
  const anySteps = fc.array(fc.nat(3000), { maxLength: 60 });
  const anyRate = fc.record({ perSecond: fc.integer({ min: 1, max: 50 }), burst: fc.integer({ min: 1, max: 20 }) });
  fc.assert(
    fc.property(anySteps, anyRate, (steps, rate) => {
      const buckets = new TokenBuckets(rate);
      const taken: number[] = [];
      let now = 0;
      for (const step of steps) {
        now += step;
        const waitMs = buckets.take("a", now);
        if (waitMs > 0) {
          // One millisecond more, for the rounding of fractions.
          now += waitMs + 1;
          expect(buckets.take("a", now)).toBe(0);
        }
        taken.push(now);
      }
      for (const [i, from] of taken.entries()) {
        for (const [j, to] of taken.entries()) {
          // The hair's breadth is for the same.
          if (j >= i) expect(j - i + 1).toBeLessThanOrEqual(rate.burst + ((to - from) * rate.perSecond) / 1000 + 1e-6);
        }
      }
    }),
  );
});

it("a clock that was set back locks nobody out", () => {
  const buckets = new TokenBuckets(RATE);
  for (let i = 0; i < 4; i++) buckets.take("a", 3_600_000);
  expect(buckets.take("a", 0)).toBe(0);
  expect(buckets.take("a", 0)).toBe(500);
});

it("full buckets are forgotten, so that memory follows who is active", () => {
  const buckets = new TokenBuckets(RATE);
  for (let i = 0; i < 1000; i++) buckets.take(`early ${i}`, 0);
  expect(buckets.size).toBe(1000);
  buckets.take("late", 2500);
  expect(buckets.size).toBe(1);
});

it("there are never more buckets than there may be; the longest untouched goes first", () => {
  const buckets = new TokenBuckets(RATE, 3);
  for (let i = 0; i < 5; i++) buckets.take("steady", i);
  for (const [i, key] of ["a", "steady", "b", "c", "steady", "d"].entries()) {
    buckets.take(key, 10 + i);
    expect(buckets.size).toBeLessThanOrEqual(3);
  }
  // Forgotten means a full bucket again; the one in use was not.
  expect(buckets.take("steady", 20)).toBeGreaterThan(0);
});

it("a rate without a burst refuses everybody and holds no more buckets than it may", () => {
  const buckets = new TokenBuckets({ perSecond: 1, burst: 0 }, 10);
  for (let i = 0; i < 100; i++) expect(buckets.take(`key ${i}`, 0)).toBeGreaterThan(0);
  expect(buckets.size).toBeLessThanOrEqual(10);
});

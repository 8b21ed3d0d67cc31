import { describe, expect, test } from "vitest";
import { figure } from "../src/figure.ts";
import { median, medianInterval, pairedDifferences, pairedRatios, quantile } from "../src/statistics.ts";

describe("median and quantile", () => {
  test("the middle one, whatever the order", () => {
    expect(median([9, 1, 5])).toBe(5);
  });

  test("halfway between the two in the middle", () => {
    expect(median([4, 1, 3, 100])).toBe(3.5);
  });

  test("the ends, and between the nearest two", () => {
    const values = [10, 20, 30, 40, 50];
    expect(quantile(values, 0)).toBe(10);
    expect(quantile(values, 1)).toBe(50);
    expect(quantile(values, 0.9)).toBeCloseTo(46);
  });

  test("nothing has no median", () => {
    expect(() => median([])).toThrow(RangeError);
  });

  test("the values stay in their order", () => {
    const values = [3, 1, 2];
    median(values);
    expect(values).toEqual([3, 1, 2]);
  });
});

describe("the interval of a median", () => {
  test("has the median within, and the values around", () => {
    const values = [7, 9, 8, 12, 6, 10, 11, 9.5];
    const { low, high } = medianInterval(values);
    expect(low).toBeGreaterThanOrEqual(6);
    expect(low).toBeLessThan(median(values));
    expect(high).toBeGreaterThan(median(values));
    expect(high).toBeLessThanOrEqual(12);
  });

  test("is a point where all rounds gave the same", () => {
    expect(medianInterval(Array<number>(8).fill(4))).toEqual({ low: 4, high: 4 });
  });

  test("is the same at each run", () => {
    expect(medianInterval([1, 2, 3, 4, 5, 6, 7])).toEqual(medianInterval([1, 2, 3, 4, 5, 6, 7]));
  });

  test("gets narrower with more rounds of the same spread", () => {
    const width = (rounds: number): number => {
      const values = Array.from({ length: rounds }, (_, round) => round % 10);
      const { low, high } = medianInterval(values, 500);
      return high - low;
    };
    expect(width(1000)).toBeLessThan(width(10));
  });

  test("holds the true median of a known distribution about as often as it says", () => {
    // Uniform over 0 to 1, by a generator of its own: 200 samples of 9.
    let state = 12_345;
    const uniform = (): number => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
      return state / 2 ** 31;
    };
    let held = 0;
    for (let sample = 0; sample < 200; sample++) {
      const { low, high } = medianInterval(Array.from({ length: 9 }, uniform), 500);
      if (low <= 0.5 && 0.5 <= high) held++;
    }
    expect(held).toBeGreaterThan(200 * 0.88);
    expect(held).toBeLessThanOrEqual(200);
  });
});

describe("paired rounds", () => {
  test("what both of a round shared falls out", () => {
    const slowDown = [1, 2, 0.5, 3];
    const a = slowDown.map((factor) => 30 * factor);
    const b = slowDown.map((factor) => 10 * factor);
    expect(pairedRatios(a, b)).toEqual([3, 3, 3, 3]);
    expect(pairedDifferences([5, 7], [1, 2])).toEqual([4, 5]);
  });

  test("different numbers of rounds are no pairs", () => {
    expect(() => pairedRatios([1, 2], [1])).toThrow(RangeError);
  });
});

describe("a figure's verdict", () => {
  const rounds = [0.7, 0.75, 0.8, 0.85, 0.9, 0.78, 0.82, 0.79];

  test.for([
    { goal: { atLeast: 0.75 }, verdict: "met" },
    { goal: { atLeast: 0.81 }, verdict: "unclear" },
    { goal: { atLeast: 2 }, verdict: "missed" },
    { goal: { atMost: 0.85 }, verdict: "met" },
    { goal: { atMost: 0.79 }, verdict: "unclear" },
    { goal: { atMost: 0.1 }, verdict: "missed" },
  ])("$verdict with $goal", ({ goal, verdict }) => {
    expect(figure("ratio", "x", rounds, goal).verdict).toBe(verdict);
  });

  test("one round has no interval, and its value decides", () => {
    expect(figure("memory", "KB", [12.5], { atMost: 12 })).toMatchObject({ median: 12.5, verdict: "missed" });
    expect(figure("memory", "KB", [12], { atMost: 12 }).interval).toBeUndefined();
  });

  test("without a goal there is none", () => {
    expect(figure("speed", "Gbit/s", rounds).verdict).toBeUndefined();
  });
});

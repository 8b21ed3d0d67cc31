import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ReplayWindow } from "../src/control/replay-window.ts";
import { IdWindow } from "../src/index.ts";

/** Numbers as they come in a bad network: around a place that moves on, now and then far away. */
const numbers = (near: number) =>
  fc.array(
    fc.oneof(
      { weight: 8, arbitrary: fc.integer({ min: -near, max: near }).map((by) => ({ by })) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: 2 ** 40 }).map((at) => ({ at })) },
    ),
    { maxLength: 300 },
  );

/** What both windows promise, told naively: all numbers are kept, and what is too old counts as used. */
class NaiveWindow {
  readonly #size: number;
  readonly #used = new Set<number>();
  #newest = -1;

  constructor(size: number) {
    this.#size = size;
  }

  isNew(number: number): boolean {
    return number > this.#newest - this.#size && !this.#used.has(number);
  }

  take(number: number): void {
    this.#used.add(number);
    this.#newest = Math.max(this.#newest, number);
  }
}

function* positions(steps: ({ by: number } | { at: number })[]): Generator<number> {
  let position = 0;
  for (const step of steps) {
    position = Math.max(0, "at" in step ? step.at : position + step.by);
    yield position;
  }
}

describe("the window of control and datagram counters", () => {
  it("knows new from used as a list of all counters would, and old ones as used", () => {
    fc.assert(
      fc.property(numbers(80), fc.constantFrom(32, 64, 1024), (steps, size) => {
        const window = new ReplayWindow(size);
        const naive = new NaiveWindow(size);
        for (const counter of positions(steps)) {
          expect(window.isNew(counter)).toBe(naive.isNew(counter));
          if (!naive.isNew(counter)) continue;
          window.take(counter);
          naive.take(counter);
          expect(window.isNew(counter)).toBe(false);
        }
      }),
    );
  });

  it("is not moved by a question", () => {
    const window = new ReplayWindow(32);
    window.isNew(1_000_000);
    expect(window.isNew(0)).toBe(true);
  });
});

describe("the window of open ids", () => {
  it("takes each id once, as a list of all ids would, for either role", () => {
    fc.assert(
      fc.property(numbers(20), fc.constantFrom(1, 16, 64), fc.constantFrom(0, 1), (steps, size, role) => {
        const window = new IdWindow(size);
        const naive = new NaiveWindow(size);
        for (const position of positions(steps)) {
          const isNew = naive.isNew(position);
          if (isNew) naive.take(position);
          expect(window.take(2 * position + role)).toBe(isNew);
        }
      }),
    );
  });

  it("remembers 4,096 ids of one peer and no more", () => {
    const window = new IdWindow();
    for (let n = 0; n <= 4096; n++) expect(window.take(2 * n)).toBe(true);
    // Too old to be known, so it counts as used.
    expect(window.take(0)).toBe(false);
    expect(window.take(2)).toBe(false);
    expect(window.take(2 * 4097)).toBe(true);
  });
});

import fc from "fast-check";
import { expect, it } from "vitest";
import { Deadlines } from "../src/ebpf/deadlines.ts";

it("gives out what is due, the earliest first, each key once and at its newest time", () => {
  const step = fc.tuple(fc.nat(20), fc.nat(1000), fc.boolean());
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.nat(1000), (steps, now) => {
      const deadlines = new Deadlines<number>();
      const model = new Map<number, number>();
      for (const [key, due, isRemoved] of steps) {
        if (isRemoved) {
          deadlines.delete(key);
          model.delete(key);
        } else {
          deadlines.set(key, due);
          model.set(key, due);
        }
      }
      const taken = [...deadlines.take(now)];
      const expected = [...model].filter(([, due]) => due <= now);
      expect(taken.toSorted()).toEqual(expected.map(([key]) => key).toSorted());
      const times = taken.map((key) => model.get(key)!);
      expect(times).toEqual(times.toSorted((a, b) => a - b));
      const left = [...model].filter(([, due]) => due > now).map(([key]) => key);
      expect([...deadlines.take(Number.POSITIVE_INFINITY)].toSorted()).toEqual(left.toSorted());
    }),
  );
});

it("may be set again while it gives out, and is empty when it is cleared", () => {
  const deadlines = new Deadlines<string>();
  for (const key of ["a", "b", "c"]) deadlines.set(key, 1);
  const taken: string[] = [];
  for (const key of deadlines.take(5)) {
    taken.push(key);
    if (taken.length < 6) deadlines.set(key, taken.length + 3);
  }
  expect(taken).toEqual(["a", "b", "c", "a", "b"]);
  deadlines.clear();
  expect([...deadlines.take(Number.POSITIVE_INFINITY)]).toEqual([]);
});

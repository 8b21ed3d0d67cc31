import fc from "fast-check";
import { expect, it } from "vitest";
import { RateBucket } from "../src/splice/rate-bucket.ts";

const want = fc.record({ afterMs: fc.nat({ max: 400 }), bytes: fc.integer({ min: 1, max: 65_536 }) });

it("never lets more pass than the rate, a burst and one overdraft", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1000, max: 10_000_000 }), fc.array(want, { maxLength: 200 }), (rate, wants) => {
      let now = 0;
      const bucket = new RateBucket(rate, () => now);
      let passed = 0;
      for (const { afterMs, bytes } of wants) {
        now += afterMs;
        if (bucket.spend(bytes, false)) passed += bytes;
        expect(passed).toBeLessThanOrEqual((rate * now) / 1000 + rate / 10 + 65_536 + 1);
      }
    }),
  );
});

it("says how long to wait, and then lets pass", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1000, max: 10_000_000 }), fc.array(want, { maxLength: 50 }), (rate, wants) => {
      let now = 0;
      const bucket = new RateBucket(rate, () => now);
      for (const { bytes } of wants) {
        const waitMs = bucket.waitMs();
        expect(bucket.spend(bytes, false)).toBe(waitMs === 0);
        now += bucket.waitMs() + 0.001;
        expect(bucket.spend(bytes, false)).toBe(true);
      }
    }),
  );
});

it("knows no limit at rate 0, and takes a new rate at once", () => {
  let now = 0;
  const bucket = new RateBucket(0, () => now);
  for (let n = 0; n < 100; n++) expect(bucket.spend(1e9, false)).toBe(true);
  bucket.set(1000);
  expect(bucket.spend(5000, false)).toBe(true);
  now = 1000;
  expect(bucket.spend(1, false)).toBe(false);
  bucket.set(0);
  expect(bucket.waitMs()).toBe(0);
  expect(bucket.spend(1e9, false)).toBe(true);
});

it("lets what is urgent go first, by a burst", () => {
  const bucket = new RateBucket(10_000, () => 0);
  expect(bucket.spend(1000, false)).toBe(true);
  expect(bucket.spend(1, false)).toBe(false);
  expect(bucket.spend(1000, true)).toBe(true);
  expect(bucket.spend(1, true)).toBe(false);
});

import fc from "fast-check";
import { expect, it } from "vitest";
import { RateBucket } from "../src/splice/rate-bucket.ts";

const want = fc.record({ afterMs: fc.nat({ max: 400 }), bytes: fc.integer({ min: 1, max: 65_536 }) });

it("never lets more pass than the rate, a burst and one overdraft", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1000, max: 10_000_000 }), fc.array(want, { maxLength: 200 }), (rate, wants) => {
      const bucket = new RateBucket(rate, 0);
      let now = 0;
      let passed = 0;
      for (const { afterMs, bytes } of wants) {
        now += afterMs;
        if (bucket.spend(bytes, now)) passed += bytes;
        expect(passed).toBeLessThanOrEqual((rate * now) / 1000 + rate / 10 + 65_536 + 1);
      }
    }),
  );
});

it("says how long to wait, and then lets pass", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1000, max: 10_000_000 }), fc.array(want, { maxLength: 50 }), (rate, wants) => {
      const bucket = new RateBucket(rate, 0);
      let now = 0;
      for (const { bytes } of wants) {
        const waitMs = bucket.waitMs(now);
        expect(bucket.spend(bytes, now)).toBe(waitMs === 0);
        now += bucket.waitMs(now) + 0.001;
        expect(bucket.spend(bytes, now)).toBe(true);
      }
    }),
  );
});

it("knows no limit at rate 0, and takes a new rate at once", () => {
  const bucket = new RateBucket(0, 0);
  for (let n = 0; n < 100; n++) expect(bucket.spend(1e9, 0)).toBe(true);
  bucket.setRate(1000, 0);
  expect(bucket.spend(5000, 0)).toBe(true);
  expect(bucket.spend(1, 1000)).toBe(false);
  bucket.setRate(0, 1000);
  expect(bucket.waitMs(1000)).toBe(0);
  expect(bucket.spend(1e9, 1000)).toBe(true);
});

it("lets what is urgent go first, by a burst", () => {
  const bucket = new RateBucket(10_000, 0);
  expect(bucket.spend(1000, 0)).toBe(true);
  expect(bucket.spend(1, 0)).toBe(false);
  expect(bucket.spend(1000, 0, true)).toBe(true);
  expect(bucket.spend(1, 0, true)).toBe(false);
});

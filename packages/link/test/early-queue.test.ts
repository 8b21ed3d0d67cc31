import { LIMITS } from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EarlyQueue } from "../src/udp/early-queue.ts";

describe("datagrams that wait", () => {
  it("come out in order, the newest within the limits, each at most once", () => {
    const datagram = fc.record({
      bytes: fc.integer({ min: 0, max: 40_000 }),
      afterMs: fc.integer({ min: 0, max: 300 }),
    });
    fc.assert(
      fc.property(fc.array(datagram, { maxLength: 120 }), fc.nat(4), (datagrams, divisor) => {
        let dropped = 0;
        const queue = new EarlyQueue<{ n: number; payload: Buffer }>(2000, () => dropped++);
        let now = 0;
        const put: { n: number; at: number; bytes: number }[] = [];
        for (const [n, { bytes, afterMs }] of datagrams.entries()) {
          now += afterMs;
          queue.put({ n, payload: Buffer.alloc(bytes) }, now);
          put.push({ n, at: now, bytes });
          expect(queue.length).toBeLessThanOrEqual(LIMITS.earlyDatagrams);
        }
        // Naively: from the newest back, as long as they are young and fit.
        const expected: number[] = [];
        let bytes = 0;
        for (const one of put.toReversed()) {
          bytes += one.bytes;
          const fits = bytes <= LIMITS.earlyDatagramBytes || expected.length === 0;
          if (!fits || expected.length >= LIMITS.earlyDatagrams || now - one.at >= 2000) break;
          expected.unshift(one.n);
        }
        const mine = (item: { n: number }): boolean => item.n % (divisor + 1) === 0;
        const first = queue.take(now, mine).map(({ n }) => n);
        const rest = queue.take(now).map(({ n }) => n);
        expect(first).toEqual(expected.filter((n) => mine({ n })));
        expect(rest).toEqual(expected.filter((n) => !mine({ n })));
        expect(queue.length).toBe(0);
        // Limits drop when there is too much, age only when somebody looks; nothing vanishes unseen.
        expect(dropped).toBe(datagrams.length - expected.length);
      }),
    );
  });

  it("are not waited for longer than their lifetime", () => {
    let dropped = 0;
    const queue = new EarlyQueue<{ payload: Buffer }>(1000, () => dropped++);
    expect(queue.expiresAt).toBeUndefined();
    queue.put({ payload: Buffer.from("x") }, 500);
    expect(queue.expiresAt).toBe(1500);
    queue.expire(1499);
    expect(queue.length).toBe(1);
    queue.expire(1500);
    expect(queue.length).toBe(0);
    expect(dropped).toBe(1);
  });
});

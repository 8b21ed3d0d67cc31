import { randomBytes } from "node:crypto";
import { LIMITS } from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Reassembly } from "../src/udp/reassembly.ts";

function split(payload: Buffer, count: number): Buffer[] {
  const size = Math.ceil(payload.length / count);
  return Array.from({ length: count }, (_, index) => payload.subarray(index * size, (index + 1) * size));
}

describe("split datagrams", () => {
  it("are whole again in any order of their parts, repeats among them, beside each other", () => {
    const message = fc.record({
      flow: fc.nat(2),
      bytes: fc.integer({ min: 300, max: 5000 }),
      parts: fc.integer({ min: 1, max: 9 }),
    });
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 8 }), fc.infiniteStream(fc.nat()), (messages, order) => {
        const reassembly = new Reassembly(() => expect.unreachable("nothing is given up"));
        const sent = messages.map(({ flow, bytes, parts }, number) => ({
          flow: String(flow),
          payload: randomBytes(bytes),
          parts,
          number,
        }));
        const onWire = sent.flatMap(({ flow, payload, parts, number }) =>
          split(payload, parts).flatMap((part, index) => {
            const one = { flow, part: { message: number, index, count: parts }, payload: part };
            return order.next().value! % 5 === 0 && parts > 1 ? [one, one] : [one];
          }),
        );
        const shuffled = onWire.map((one) => ({ one, key: order.next().value! })).toSorted((a, b) => a.key - b.key);
        const whole = new Map<number, Buffer>();
        for (const { one } of shuffled) {
          // A repeat behind the last part begins anew: on a path the replay window keeps it away.
          if (whole.has(one.part.message)) continue;
          const payload = reassembly.take(one.flow, one.part, one.payload, 0);
          if (payload) whole.set(one.part.message, payload);
        }
        for (const { payload, number } of sent) expect(whole.get(number)).toEqual(payload);
        expect(reassembly.bytes).toBe(0);
      }),
    );
  });

  it("hold little memory whatever parts come, and forget all of it in 2 s", () => {
    let dropped = 0;
    const reassembly = new Reassembly(() => dropped++);
    for (let message = 0; message < 5000; message++) {
      reassembly.take("1", { message: message & 0xffff, index: 1, count: 50 }, Buffer.alloc(1200), message / 100);
      expect(reassembly.bytes).toBeLessThanOrEqual(1024 * 1024);
    }
    expect(dropped).toBeGreaterThan(4000);
    reassembly.expire(60_000);
    expect(reassembly.bytes).toBe(0);
    expect(dropped).toBe(5000);
  });

  it("that would be larger than any datagram are dropped", () => {
    let dropped = 0;
    const reassembly = new Reassembly(() => dropped++);
    const half = Buffer.alloc(LIMITS.applicationDatagramBytes / 2 + 1);
    expect(reassembly.take("1", { message: 1, index: 0, count: 2 }, half, 0)).toBeUndefined();
    expect(reassembly.take("1", { message: 1, index: 1, count: 2 }, half, 0)).toBeUndefined();
    expect(dropped).toBe(1);
    expect(reassembly.bytes).toBe(0);
  });

  it("whose number comes again with other parts are the new one", () => {
    const reassembly = new Reassembly(() => undefined);
    reassembly.take("1", { message: 7, index: 0, count: 3 }, Buffer.from("old"), 0);
    reassembly.take("1", { message: 7, index: 0, count: 2 }, Buffer.from("ne"), 1);
    expect(reassembly.take("1", { message: 7, index: 1, count: 2 }, Buffer.from("w"), 2)?.toString()).toBe("new");
  });
});

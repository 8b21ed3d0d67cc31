import { createCipheriv } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EngineDatagramOpener, EngineDatagramSealer } from "../src/aead/datagram.ts";
import { engines, KEY, OTHER_KEY, pairs } from "./engines.ts";
import { pattern, withSuites } from "./record-samples.ts";

const counters = fc.oneof(fc.bigInt(0n, 2n ** 64n - 1n), fc.constantFrom(0n, 1n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n));

describe.each(withSuites(pairs))(
  "$suite datagrams sealed by $from and opened by $to",
  ({ suite, sealing, opening }) => {
    const from = new EngineDatagramSealer(sealing, suite, KEY);
    const to = new EngineDatagramOpener(opening, suite, KEY);

    test("any header, counter and payload arrive as they were sent", () => {
      const header = fc.uint8Array({ maxLength: 40 });
      const payload = fc.oneof(fc.uint8Array({ maxLength: 1500 }), fc.constantFrom(new Uint8Array(65_507).fill(3)));
      fc.assert(
        fc.property(header, counters, payload, (head, counter, sent) => {
          const datagram = from.seal(head, counter, sent);
          expect(datagram.length).toBe(head.length + sent.length + 16);
          expect(Buffer.compare(datagram.subarray(0, head.length), head)).toBe(0);
          const before = Buffer.from(datagram);
          const received = to.open(datagram, head.length, counter);
          expect(received && Buffer.compare(received, sent)).toBe(0);
          expect(datagram.equals(before)).toBe(true);
        }),
        { numRuns: 60 },
      );
    });
  },
);

describe.each(withSuites(engines))("$suite datagrams on $name", ({ suite, engine }) => {
  const from = new EngineDatagramSealer(engine, suite, KEY);
  const to = new EngineDatagramOpener(engine, suite, KEY);
  const header = pattern(13, 1);

  test("are those that node:crypto makes by hand", () => {
    const counter = 0x0102030405060708n;
    const nonce = Buffer.from("000000000102030405060708", "hex");
    const cipher = createCipheriv(suite as "aes-256-gcm", KEY, nonce, { authTagLength: 16 });
    cipher.setAAD(header);
    const expected = Buffer.concat([header, cipher.update(pattern(1200)), cipher.final(), cipher.getAuthTag()]);
    expect(from.seal(header, counter, pattern(1200)).equals(expected)).toBe(true);
  });

  test("are refused with any one bit flipped, header included", () => {
    const datagram = from.seal(header, 7n, Buffer.from("payload!"));
    for (let bit = 0; bit < datagram.length * 8; bit++) {
      const forged = Buffer.from(datagram);
      forged[bit >> 3]! ^= 1 << (bit & 7);
      expect(to.open(forged, header.length, 7n), `bit ${bit}`).toBeUndefined();
    }
    expect(to.open(datagram, header.length, 7n)?.toString()).toBe("payload!");
  });

  test("are refused cut, with another counter, key or length of header", () => {
    const datagram = from.seal(header, 7n, Buffer.from("payload!"));
    for (let size = 0; size < datagram.length; size++) {
      expect(to.open(datagram.subarray(0, size), header.length, 7n), `${size} bytes`).toBeUndefined();
    }
    expect(to.open(datagram, header.length, 8n)).toBeUndefined();
    expect(to.open(datagram, header.length - 1, 7n)).toBeUndefined();
    expect(to.open(datagram, datagram.length + 1, 7n)).toBeUndefined();
    expect(new EngineDatagramOpener(engine, suite, OTHER_KEY).open(datagram, header.length, 7n)).toBeUndefined();
  });

  test("give a payload that is the receiver's own", () => {
    const datagram = from.seal(header, 7n, Buffer.from("payload!"));
    const payload = to.open(datagram, header.length, 7n)!;
    datagram.fill(0);
    expect(payload.toString()).toBe("payload!");
  });
});

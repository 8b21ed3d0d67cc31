import { createHmac } from "node:crypto";
import { decodePreface, encodePreface, IsthmusError, PREFACE_BYTES, PROTOCOL_VERSION } from "@isthmus/protocol";
import fc from "fast-check";
import { expect, it } from "vitest";
import { bitFlips, truncations } from "./bits.ts";

const KEY = Buffer.alloc(32, 9);
const PREFACE = { plain: true, attempt: 2, openId: 0x11_2233_4455, salt: Buffer.alloc(16, 0xa5) };
const BYTES = encodePreface(PREFACE, KEY);

function refusal(bytes: Buffer, key: Uint8Array = KEY): string | undefined {
  try {
    decodePreface(bytes, key);
    return undefined;
  } catch (error) {
    if (error instanceof IsthmusError) return error.code;
    throw error;
  }
}

/** The preface with one byte changed and a right HMAC, as only its sender could make it. */
function resealed(at: number, value: number): Buffer {
  const bytes = Buffer.from(BYTES);
  bytes[at] = value;
  createHmac("sha256", KEY).update(bytes.subarray(0, 32)).digest().copy(bytes, 32, 0, 16);
  return bytes;
}

it("arrives as it was sent", () => {
  const any = fc.record({
    plain: fc.boolean(),
    attempt: fc.nat(255),
    openId: fc.maxSafeNat(),
    salt: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes)),
  });
  fc.assert(
    fc.property(any, fc.uint8Array({ minLength: 32, maxLength: 32 }), (preface, key) => {
      const bytes = encodePreface(preface, key);
      expect(bytes).toHaveLength(PREFACE_BYTES);
      expect(decodePreface(bytes, key)).toEqual(preface);
    }),
  );
});

it("keeps its salt when the buffer it came in is used again", () => {
  const bytes = Buffer.from(BYTES);
  const { salt } = decodePreface(bytes, KEY);
  bytes.fill(0);
  expect(salt).toEqual(PREFACE.salt);
});

it("is refused when it is cut or too long", () => {
  for (const cut of truncations(BYTES)) expect(refusal(cut)).toBe("bad-preface");
  expect(refusal(Buffer.concat([BYTES, Buffer.alloc(1)]))).toBe("bad-preface");
});

it("is refused when any bit is flipped, in the version as such", () => {
  for (const { flipped, byte } of bitFlips(BYTES)) {
    expect(refusal(flipped)).toBe(byte === 4 ? "unsupported-version" : "bad-preface");
  }
});

it("is refused under another key, so a reflected one is no peer's", () => {
  expect(refusal(BYTES, Buffer.alloc(32, 10))).toBe("bad-preface");
});

it.each([
  ["flag 1", 5, 0b10],
  ["flag 7", 5, 0b1000_0001],
  ["the reserved byte", 7, 1],
])("is refused with %s set, even with the right HMAC", (_, at, value) => {
  expect(refusal(resealed(at, value))).toBe("bad-preface");
});

it("of another version is refused as such, even with the right HMAC", () => {
  expect(refusal(resealed(4, PROTOCOL_VERSION + 1))).toBe("unsupported-version");
});

it("an open id above 2^53 is refused, not rounded", () => {
  expect(refusal(resealed(9, 0x20))).toBe("bad-preface");
});

it("random bytes never end in anything but a preface or an error of ours", () => {
  const start = Buffer.from([0x49, 0x53, 0x54, 0x50, PROTOCOL_VERSION]);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.uint8Array({ minLength: 43, maxLength: 43 }), (any, rest) => {
      refusal(Buffer.from(any));
      expect(refusal(Buffer.concat([start, rest]))).toBe("bad-preface");
    }),
    { numRuns: 1000 },
  );
});

import {
  DATAGRAM_HEADER_BYTES,
  DATAGRAM_OVERHEAD_BYTES,
  DATAGRAM_TAG_BYTES,
  DATAGRAM_TYPE,
  type DatagramHeader,
  decodeDatagramHeader,
  encodeDatagramHeader,
  generationBits,
  LIMITS,
  MAX_PARTS,
  PART_HEADER_BYTES,
  partsOf,
  wholePayload,
} from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bitFlips, truncations } from "./bits.ts";

const { data, part, hello, helloAnswer } = DATAGRAM_TYPE;

const common = {
  generationBits: fc.nat(3),
  flow: fc.nat(0xffff_ffff),
  counter: fc.bigInt(0n, 2n ** 64n - 1n),
};
const anyPart = fc
  .tuple(fc.nat(0xffff), fc.nat(MAX_PARTS - 1), fc.nat(MAX_PARTS - 1))
  .map(([message, a, b]) => ({ message, index: Math.min(a, b), count: Math.max(a, b) + 1 }));
const anyHeader: fc.Arbitrary<DatagramHeader> = fc.oneof(
  fc.record({ type: fc.constantFrom(data, hello, helloAnswer), ...common }),
  fc.record({ type: fc.constant(part), ...common, part: anyPart }),
);

const HEADERS: DatagramHeader[] = [
  { type: data, generationBits: 2, flow: 0xdead_beef, counter: 0x1_0000_0001n },
  { type: part, generationBits: 1, flow: 3, counter: 9n, part: { message: 0x1234, index: 2, count: 5 } },
  { type: hello, generationBits: 0, flow: 0, counter: 0n },
];

function datagram(header: DatagramHeader, payload = 0): Buffer {
  return Buffer.concat([encodeDatagramHeader(header), Buffer.alloc(payload + DATAGRAM_TAG_BYTES, 0xee)]);
}

it("a header arrives as it was sent, with where the seal begins", () => {
  fc.assert(
    fc.property(anyHeader, fc.nat(40), (header, payload) => {
      const bytes = datagram(header, payload);
      const length = DATAGRAM_HEADER_BYTES + (header.part ? PART_HEADER_BYTES : 0);
      expect(decodeDatagramHeader(bytes)).toEqual({ header, length });
      expect(bytes.length).toBe(length + payload + DATAGRAM_TAG_BYTES);
    }),
  );
});

describe.each(HEADERS)("a datagram of type $type", (header) => {
  const bytes = datagram(header);

  it("that cannot hold a tag is dropped", () => {
    for (const cut of truncations(bytes)) expect(decodeDatagramHeader(cut)).toBeUndefined();
  });

  it("with a flipped bit in its header is dropped or read as another, which its seal then refuses", () => {
    const good = decodeDatagramHeader(bytes);
    for (const { flipped } of bitFlips(encodeDatagramHeader(header))) {
      expect(decodeDatagramHeader(Buffer.concat([flipped, Buffer.alloc(DATAGRAM_TAG_BYTES, 0xee)]))).not.toEqual(good);
    }
  });

  it("of an unknown type is dropped", () => {
    for (let type = 0; type < 64; type++) {
      const other = Buffer.concat([bytes, Buffer.alloc(PART_HEADER_BYTES)]);
      other[0] = (header.generationBits << 6) | type;
      if (type < data || type > helloAnswer) expect(decodeDatagramHeader(other)).toBeUndefined();
      else if (type !== part) expect(decodeDatagramHeader(other)?.header.type).toBe(type);
    }
  });
});

it("a part beyond the last of its message is dropped", () => {
  const bytes = datagram(HEADERS[1]!);
  bytes[15] = 5;
  expect(decodeDatagramHeader(bytes)).toBeUndefined();
});

it("random bytes are a datagram or nothing, never an error", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      const decoded = decodeDatagramHeader(Buffer.from(bytes));
      if (decoded) expect(encodeDatagramHeader(decoded.header)).toEqual(Buffer.from(bytes.subarray(0, decoded.length)));
    }),
    { numRuns: 2000 },
  );
});

it("the bits of a generation are the lowest two of its last byte", () => {
  expect(["0", "1", "2", "3", "4", "f"].map((digit) => generationBits(`000000000000000${digit}`))).toEqual([
    0, 1, 2, 3, 0, 3,
  ]);
});

it("an unsplit payload with its header and tag fills the path exactly", () => {
  expect(wholePayload(LIMITS.datagramFloorBytes) + DATAGRAM_OVERHEAD_BYTES).toBe(LIMITS.datagramFloorBytes);
});

it("parts hold the payload, with none to spare, and the largest datagram fits the numbering at the smallest path", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: LIMITS.applicationDatagramBytes }),
      fc.integer({ min: LIMITS.datagramFloorBytes, max: LIMITS.datagramCeilingBytes }),
      (payload, path) => {
        const each = path - DATAGRAM_OVERHEAD_BYTES - PART_HEADER_BYTES;
        const parts = partsOf(payload, path);
        expect(parts * each).toBeGreaterThanOrEqual(payload);
        expect((parts - 1) * each).toBeLessThan(payload);
      },
    ),
  );
  expect(partsOf(LIMITS.applicationDatagramBytes)).toBeLessThanOrEqual(MAX_PARTS);
});

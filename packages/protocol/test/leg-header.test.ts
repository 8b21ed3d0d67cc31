import {
  decodeLegHeader,
  encodeLegHeader,
  encodeProbe,
  IsthmusError,
  LEG_HEADER_BYTES,
  type LegHeader,
  type LegKind,
  NO_ID,
  PROTOCOL_VERSION,
  probeNonce,
  verifyLegHeader,
} from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bitFlips, truncations } from "./bits.ts";

const KEY = Buffer.alloc(32, 7);
const anyId = fc.stringMatching(/^[0-9a-f]{16}$/);
const anySide = fc.constantFrom<0 | 1>(0, 1);

const anyHeader: fc.Arbitrary<LegHeader> = fc.oneof(
  fc.record({
    kind: fc.constant<LegKind>("leg"),
    side: anySide,
    attempt: fc.nat(255),
    allocation: anyId,
    generation: anyId,
    openId: fc.maxSafeNat(),
  }),
  fc.record({
    kind: fc.constant<LegKind>("control"),
    side: anySide,
    attempt: fc.constant(0),
    allocation: anyId,
    generation: anyId,
    openId: fc.constant(0),
  }),
  fc.record({
    kind: fc.constant<LegKind>("also"),
    side: anySide,
    attempt: fc.constant(0),
    allocation: anyId,
    generation: fc.constant(NO_ID),
    openId: fc.constant(0),
  }),
);

const LEG: LegHeader = {
  kind: "leg",
  side: 1,
  attempt: 3,
  allocation: "0123456789abcdef",
  generation: "fedcba9876543210",
  openId: 0x1234_5678_9abc,
};
const HEADERS = new Map<LegKind, Buffer>([
  ["leg", encodeLegHeader(LEG, KEY)],
  ["control", encodeLegHeader({ ...LEG, kind: "control", attempt: 0, openId: 0 }, KEY)],
  ["also", encodeLegHeader({ ...LEG, kind: "also", attempt: 0, generation: NO_ID, openId: 0 }, KEY)],
]);

/** The code of the refusal, or `undefined` when the header was accepted. */
function refusal(bytes: Buffer): string | undefined {
  try {
    decodeLegHeader(bytes);
    return undefined;
  } catch (error) {
    if (error instanceof IsthmusError) return error.code;
    throw error;
  }
}

it("arrives as it was sent", () => {
  fc.assert(
    fc.property(anyHeader, fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.uint8Array(), (header, key, rest) => {
      const bytes = encodeLegHeader(header, key);
      expect(bytes).toHaveLength(LEG_HEADER_BYTES);
      expect(decodeLegHeader(Buffer.concat([bytes, rest]))).toEqual(header);
      expect(verifyLegHeader(Buffer.concat([bytes, rest]), key)).toBe(true);
    }),
  );
});

describe.each([...HEADERS])("a header of kind %s", (_, bytes) => {
  it("is refused when it is cut", () => {
    for (const cut of truncations(bytes)) expect(refusal(cut)).toBe("bad-leg-header");
  });

  it("is refused or fails its HMAC when any bit is flipped", () => {
    for (const { flipped } of bitFlips(bytes)) {
      expect(refusal(flipped) !== undefined || !verifyLegHeader(flipped, KEY)).toBe(true);
    }
  });

  it("fails its HMAC under another key", () => {
    expect(verifyLegHeader(bytes, Buffer.alloc(32, 8))).toBe(false);
  });

  it("of another version is refused as such", () => {
    for (const version of [0, PROTOCOL_VERSION + 1, 255]) {
      const other = Buffer.from(bytes);
      other[4] = version;
      expect(refusal(other)).toBe("unsupported-version");
    }
  });

  it.each([
    ["kind", 5, [0, 5, 255]],
    ["side", 6, [2, 255]],
    ["magic", 0, [0, 0x47]],
  ])("with an unknown %s is refused", (_field, at, values) => {
    for (const value of values) {
      const other = Buffer.from(bytes);
      other[at] = value;
      expect(refusal(other)).toBe("bad-leg-header");
    }
  });
});

it.each<[LegKind, string, Partial<LegHeader>]>([
  ["control", "an attempt", { attempt: 1 }],
  ["control", "an open id", { openId: 2 ** 40 }],
  ["also", "an attempt", { attempt: 1 }],
  ["also", "a generation", { generation: LEG.generation }],
  ["also", "an open id", { openId: 1 }],
])("a header of kind %s with %s is refused, even with the right HMAC", (kind, _, field) => {
  const header = { ...decodeLegHeader(HEADERS.get(kind)!), ...field };
  expect(refusal(encodeLegHeader(header, KEY))).toBe("bad-leg-header");
});

it("an open id above 2^53 is refused, not rounded", () => {
  const bytes = Buffer.from(HEADERS.get("leg")!);
  bytes.writeBigUInt64BE(2n ** 53n, 24);
  expect(refusal(bytes)).toBe("bad-leg-header");
});

describe("a probe", () => {
  const nonce = Buffer.from(Array.from({ length: 16 }, (_, i) => 255 - i));

  it("carries its nonce", () => {
    const bytes = encodeProbe(nonce);
    expect(bytes).toHaveLength(LEG_HEADER_BYTES);
    expect(decodeLegHeader(bytes)).toMatchObject({ kind: "probe", side: 0, attempt: 0, allocation: NO_ID, openId: 0 });
    expect(probeNonce(bytes)).toEqual(nonce);
  });

  it("with any bit flipped is refused or is a probe of another nonce, which proves nothing", () => {
    for (const { flipped, byte } of bitFlips(encodeProbe(nonce))) {
      if (byte >= 16 && byte < 32) expect(probeNonce(flipped)).not.toEqual(nonce);
      else expect(refusal(flipped)).toBeDefined();
    }
  });

  it("does not pass for a leg of any key", () => {
    expect(verifyLegHeader(encodeProbe(nonce), KEY)).toBe(false);
  });
});

it("random bytes, also behind the right magic and version, never end in anything but a header or an error of ours", () => {
  const start = Buffer.from([0x49, 0x53, 0x54, 0x48, PROTOCOL_VERSION]);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      refusal(Buffer.from(bytes));
      refusal(Buffer.concat([start, bytes]));
    }),
    { numRuns: 2000 },
  );
});

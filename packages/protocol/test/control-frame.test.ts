import {
  addressedFrame,
  CONTROL_FRAME_MAX_BYTES,
  CONTROL_HEADER_BYTES,
  decodeControlFrame,
  encodeControlHeader,
  encodeUnknownGeneration,
  IsthmusError,
} from "@isthmus/protocol";
import fc from "fast-check";
import { expect, it } from "vitest";
import { bitFlips, truncations } from "./bits.ts";

const anyGeneration = fc.stringMatching(/^[0-9a-f]{16}$/);
const anyCounter = fc.bigInt(0n, 2n ** 64n - 1n);
const GENERATION = "00112233445566ff";
const CIPHERTEXT = Buffer.alloc(40, 0xcc);
const SEALED = Buffer.concat([encodeControlHeader(GENERATION, 513n), CIPHERTEXT]);
const UNKNOWN = encodeUnknownGeneration(GENERATION);

function refusal(bytes: Buffer): string | undefined {
  try {
    decodeControlFrame(bytes);
    return undefined;
  } catch (error) {
    if (error instanceof IsthmusError) return error.code;
    throw error;
  }
}

it("a sealed frame arrives as it was sent, its whole header beside the ciphertext", () => {
  const anyCiphertext = fc.uint8Array({ minLength: 16, maxLength: 200 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(anyGeneration, anyCounter, anyCiphertext, (generation, counter, ciphertext) => {
      const header = encodeControlHeader(generation, counter);
      expect(header).toHaveLength(CONTROL_HEADER_BYTES);
      expect(decodeControlFrame(addressedFrame(header, ciphertext))).toEqual({
        kind: "sealed",
        generation,
        counter,
        header,
        ciphertext,
      });
    }),
  );
});

it("the hint that a generation is unknown arrives as it was sent", () => {
  fc.assert(
    fc.property(anyGeneration, (generation) => {
      expect(decodeControlFrame(encodeUnknownGeneration(generation))).toEqual({
        kind: "unknown-generation",
        generation,
      });
    }),
  );
});

it("a frame that cannot hold a tag is refused", () => {
  const shortest = SEALED.subarray(0, CONTROL_HEADER_BYTES + 16);
  expect(refusal(Buffer.from(shortest))).toBeUndefined();
  for (const cut of truncations(Buffer.from(shortest))) expect(refusal(cut)).toBe("bad-message");
});

it("a hint of another length is refused", () => {
  for (const cut of truncations(UNKNOWN)) expect(refusal(cut)).toBe("bad-message");
  expect(refusal(Buffer.concat([UNKNOWN, Buffer.alloc(1)]))).toBe("bad-message");
});

it("a frame of an unknown kind is refused", () => {
  for (let kind = 0; kind < 256; kind++) {
    const bytes = Buffer.from(SEALED);
    bytes[0] = kind;
    expect(refusal(bytes)).toBe(kind === 1 ? undefined : "bad-message");
  }
});

it("a flipped bit is refused or changes what the seal covers", () => {
  const good = decodeControlFrame(SEALED);
  if (good.kind !== "sealed") throw new Error("not sealed");
  for (const { flipped } of bitFlips(SEALED)) {
    if (refusal(flipped) !== undefined) continue;
    const frame = decodeControlFrame(flipped);
    expect(frame.kind).toBe("sealed");
    if (frame.kind !== "sealed") continue;
    // Nonce and additional data are the header: equal header and ciphertext would mean an unnoticed change.
    expect(frame.header.equals(good.header) && frame.ciphertext.equals(good.ciphertext)).toBe(false);
  }
});

it("a frame above the limit is too-large, whatever is in it", () => {
  const largest = Buffer.concat([SEALED, Buffer.alloc(CONTROL_FRAME_MAX_BYTES - SEALED.length)]);
  expect(refusal(largest)).toBeUndefined();
  expect(refusal(Buffer.concat([largest, Buffer.alloc(1)]))).toBe("too-large");
});

it("random bytes never end in anything but a frame or an error of ours", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => void refusal(Buffer.from(bytes))),
    { numRuns: 2000 },
  );
});

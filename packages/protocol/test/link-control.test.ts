import {
  decodeLinkControl,
  encodeLinkControl,
  IsthmusError,
  LIMITS,
  type LinkControlMessage,
  type LinkControlName,
  linkControl,
} from "@isthmus/protocol";
import { arbitraryOf } from "@isthmus/protocol/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { overTheWire, withUnknownFields } from "./vocabularies.ts";

const NAMES = Object.keys(linkControl) as LinkControlName[];

function anyMessage(name: LinkControlName): fc.Arbitrary<LinkControlMessage> {
  return arbitraryOf(linkControl[name]).map((body) => ({ t: name, ...body }) as LinkControlMessage);
}

describe.each(NAMES)("control message %s", (name) => {
  it("arrives as it was sent, without what nobody knows", () => {
    fc.assert(
      fc.property(anyMessage(name), (message) => {
        const arrived = { t: name, ...linkControl[name].parse(overTheWire(message)) };
        expect(decodeLinkControl(encodeLinkControl(message))).toEqual(arrived);
        const future = Buffer.from(JSON.stringify(withUnknownFields(message)));
        expect(decodeLinkControl(future)).toEqual(arrived);
      }),
      { numRuns: 50 },
    );
  });

  it("is within the limit with everything in it at its longest", () => {
    fc.assert(
      fc.property(anyMessage(name), (message) => {
        const longest = { ...message, ...("handshake" in message ? { handshake: "A".repeat(2731) } : {}) };
        expect(encodeLinkControl(longest as LinkControlMessage).length).toBeLessThan(LIMITS.controlPlaintextBytes);
      }),
      { numRuns: 20 },
    );
  });
});

it("a message of an unknown type is dropped", () => {
  for (const t of ["from-the-future", "toString", "__proto__", ""]) {
    expect(decodeLinkControl(Buffer.from(JSON.stringify({ t, id: 1 })))).toBeUndefined();
  }
});

it("a message above the limit is not made", () => {
  const message = { t: "rekey", handshake: "A".repeat(LIMITS.controlPlaintextBytes) } as LinkControlMessage;
  expect(() => encodeLinkControl(message)).toThrow(expect.objectContaining({ code: "too-large" }));
});

it("reads the message out of a larger buffer, where decryption leaves it", () => {
  const whole = Buffer.from(`xxxx${JSON.stringify({ t: "ping", n: 7 })}xxxx`);
  expect(decodeLinkControl(whole.subarray(4, -4))).toEqual({ t: "ping", n: 7 });
});

it.each([
  ["nothing", ""],
  ["no JSON", "\xff"],
  ["null", "null"],
  ["a list", "[]"],
  ["no type", "{}"],
  ["an open id with a fraction", '{"t":"cancel","id":0.5,"attempt":0}'],
  ["a negative open id", '{"t":"cancel","id":-1,"attempt":0}'],
  ["an open id above 2^53", '{"t":"cancel","id":9007199254740993,"attempt":0}'],
  ["an attempt that does not fit a byte", '{"t":"cancel","id":0,"attempt":256}'],
  ["a flow id that does not fit 32 bits", '{"t":"flowOk","flow":4294967296}'],
  [
    "an unknown rendezvous",
    '{"t":"open","id":0,"attempt":0,"proto":"tcp","rendezvous":{"at":"moon","allocation":"0000000000000000"}}',
  ],
  [
    "a cell beyond the last",
    '{"t":"open","id":0,"attempt":0,"proto":"tcp","rendezvous":{"at":"cell","allocation":"0000000000000000","cell":128,"mode":"pure"}}',
  ],
  ["depth", "[".repeat(4000)],
])("%s is bad-message", (_, text) => {
  expect(() => decodeLinkControl(Buffer.from(text, "latin1"))).toThrow(
    expect.objectContaining({ code: "bad-message" }),
  );
});

it("random bytes never end in anything but a message, nothing, or an error of ours", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array(),
        fc.json().map((text) => Buffer.from(text)),
      ),
      (bytes) => {
        try {
          decodeLinkControl(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(IsthmusError);
        }
      },
    ),
    { numRuns: 1000 },
  );
});

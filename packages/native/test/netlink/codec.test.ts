import fc from "fast-check";
import { describe, expect, expectTypeOf, it } from "vitest";
import {
  AttributeCodec,
  type Attributes,
  AttributeWriter,
  IST_FAMILY,
  type IstAlloc,
  NetlinkFormatError,
  readAttributes,
} from "../../src/netlink/index.ts";
import { readAck, readMessages } from "../../src/netlink/message.ts";
import { EVERYTHING } from "./families.ts";

type All = Attributes<typeof EVERYTHING, "all">;

const codec = new AttributeCodec(EVERYTHING);

function written(values: object, set = "all"): Uint8Array {
  const writer = new AttributeWriter();
  codec.write(set, values, writer);
  return Uint8Array.from(writer.bytes);
}

const bytes = (minLength: number, maxLength: number) => fc.uint8Array({ minLength, maxLength });
const inner = fc.record(
  { number: fc.nat(0xffff_ffff), deeper: fc.record({ bytes: bytes(0, 300) }, { requiredKeys: [] }) },
  { requiredKeys: [] },
);
const all: fc.Arbitrary<All> = fc.record(
  {
    tiny: fc.nat(0xff),
    small: fc.nat(0xffff),
    number: fc.nat(0xffff_ffff),
    large: fc.bigInt(0n, 0xffff_ffff_ffff_ffffn),
    text: fc.string({ unit: "grapheme", maxLength: 20 }).filter((text) => !text.includes("\0")),
    bytes: bytes(1, 100),
    yes: fc.constant(true),
    colour: fc.constantFrom("red", "green", "blue"),
    ranged: fc.integer({ min: 10, max: 20 }),
    inner,
    numbers: fc.array(fc.nat(0xffff), { minLength: 1 }),
    inners: fc.array(inner, { minLength: 1 }),
    list: fc.array(inner),
  },
  { requiredKeys: [] },
);

/** Only errors of the format may come of bytes that are none. */
function mayRefuse(read: () => unknown): void {
  try {
    read();
  } catch (error) {
    expect(error).toBeInstanceOf(NetlinkFormatError);
  }
}

describe("attributes by their specification", () => {
  it("come back as they were written", () => {
    fc.assert(
      fc.property(all, (values) => {
        fc.pre(Buffer.byteLength(values.text ?? "") <= 100);
        expect(codec.read("all", written(values))).toEqual(values);
      }),
      { numRuns: 1000 },
    );
  });

  it("stand in memory as the kernel's headers say", () => {
    const nest = [12, 0, 10, 0x80, 8, 0, 1, 0, 4, 3, 2, 1];
    const bytesOf = [...[5, 0, 1, 0, 0xab, 0, 0, 0], ...[6, 0, 2, 0, 0x34, 0x12, 0, 0], ...nest];
    expect([...written({ tiny: 0xab, small: 0x1234, inner: { number: 0x01020304 } })]).toEqual(bytesOf);
    expect([...written({ text: "hi" })]).toEqual([7, 0, 5, 0, 0x68, 0x69, 0, 0]);
    expect([...written({ yes: true, tiny: undefined })]).toEqual([4, 0, 7, 0]);
    expect([...written({ yes: false })]).toEqual([]);
  });

  it.each([
    [{ tiny: 256 }, "tiny of 256 is not 0 to 255"],
    [{ tiny: -1 }, "tiny of -1 is not 0 to 255"],
    [{ small: 1.5 }, "small is not an integer"],
    [{ number: "7" }, "number is not an integer"],
    [{ large: 7 }, "large is not a bigint"],
    [{ large: 2n ** 64n }, "large of 18446744073709551616 is out of range"],
    [{ text: "a\0b" }, "text is not a string without zero bytes"],
    [{ text: "x".repeat(101) }, "text of 101 bytes is not 0 to 100"],
    [{ bytes: new Uint8Array(0) }, "bytes of 0 bytes is not 1 to 100"],
    [{ bytes: [1] }, "bytes is not a Uint8Array"],
    [{ yes: 1 }, "yes is not a boolean"],
    [{ colour: "grey" }, "colour of grey is none of colour"],
    [{ ranged: 21 }, "ranged of 21 is not 10 to 20"],
    [{ inner: 1 }, "inner is not an object"],
    [{ inners: {} }, "inners is not an array"],
    [{ inners: [{}, { deeper: { bytes: 1 } }] }, "inners[1].deeper.bytes is not a Uint8Array"],
    [{ list: [{ nothing: 1 }] }, "there is no attribute list[0].nothing"],
    [{ toString: 1 }, "there is no attribute toString"],
  ])("refuse %o and name the attribute", (values, text) => {
    expect(() => written(values)).toThrow(new NetlinkFormatError(`everything: ${text}`));
  });

  it("refuse what is too long for an attribute", () => {
    const writer = new AttributeWriter();
    writer.put(1, new Uint8Array(65_531));
    expect(() => writer.put(1, new Uint8Array(65_532))).toThrow(NetlinkFormatError);
    expect(() => written({ inners: undefined, list: Array(20_000).fill({}) })).toThrow("a nest of 80004 bytes");
  });

  it("are left out when a newer kernel sends types and values that are not known", () => {
    const writer = new AttributeWriter();
    writer.putU32(999, 1);
    writer.putU8(8, 7);
    writer.putU8(1, 1);
    expect(codec.read("all", writer.bytes)).toEqual({ tiny: 1 });
  });

  it("of a wrong size are refused", () => {
    const writer = new AttributeWriter();
    writer.putU16(3, 1);
    expect(() => codec.read("all", writer.bytes)).toThrow("number of 2 bytes is no u32");
  });

  it.each(["tiny", "small", "number", "large", "bytes"] as const)("may be many: %s", (name) => {
    const value = { tiny: 7, small: 7, number: 7, large: 7n, bytes: Uint8Array.of(7) }[name];
    const writer = new AttributeWriter();
    for (let n = 0; n < 1000; n++) codec.write("all", { [name]: value }, writer);
    const read = Array.from(readAttributes(writer.bytes), ({ payload }) => payload[0]);
    expect(read).toEqual(Array(1000).fill(7));
  });

  it("do not keep the bytes that they were read from", () => {
    const received = written({ bytes: Uint8Array.of(1, 2), text: "ab" });
    const values = codec.read("all", received);
    received.fill(0);
    expect(values).toEqual({ bytes: Uint8Array.of(1, 2), text: "ab" });
  });

  it("are found by where they stand", () => {
    const message = written({ tiny: 1, inners: [{ number: 1 }, { number: 2, deeper: { bytes: new Uint8Array(5) } }] });
    const found = new Set<string | undefined>();
    for (let offset = 0; offset < message.length; offset += 4) found.add(codec.nameAt("all", message, offset));
    expect([...found]).toEqual([
      "tiny",
      "inners[0]",
      "inners[0].number",
      "inners[1]",
      "inners[1].number",
      "inners[1].deeper",
      "inners[1].deeper.bytes",
    ]);
    expect(codec.nameAt("all", message, 10_000)).toBeUndefined();
    expect(codec.nameOf("all", message, 3)).toBe("number");
    expect(codec.nameOf("all", message, 1, 8)).toBe("inners[0].number");
    const deeper = [...Array(message.length).keys()].find(
      (offset) => offset % 4 === 0 && codec.nameAt("all", message, offset) === "inners[1].deeper",
    );
    expect(codec.nameOf("all", message, 1, deeper)).toBe("inners[1].deeper.bytes");
    expect(codec.nameOf("all", message, 1, 10_000)).toBeUndefined();
  });

  it("have the types that the generated module gives them", () => {
    expectTypeOf<Attributes<typeof IST_FAMILY, "alloc">>().toEqualTypeOf<IstAlloc>();
    expectTypeOf<All["colour"]>().toEqualTypeOf<"red" | "green" | "blue" | undefined>();
    expectTypeOf<All["list"]>().toEqualTypeOf<Attributes<typeof EVERYTHING, "inner">[] | undefined>();
    expectTypeOf<All["numbers"]>().toEqualTypeOf<number[] | undefined>();
    const ist = new AttributeCodec(IST_FAMILY);
    const writer = new AttributeWriter();
    const allocation: IstAlloc = {
      id: 7n,
      cell: [{ number: 0, mode: "pure", port0: 1, port1: 2 }],
      removeCell: [4, 5],
    };
    ist.write("alloc", allocation, writer);
    expect(ist.read("alloc", writer.bytes)).toEqual(allocation);
  });
});

describe("bytes that are no messages", () => {
  const reads = [
    (input: Uint8Array) => [...readAttributes(input)],
    (input: Uint8Array) => codec.read("all", input),
    (input: Uint8Array) => codec.nameAt("all", input, 8),
    (input: Uint8Array) => codec.nameOf("all", input, 1, 8),
    (input: Uint8Array) => Array.from(readMessages(input), (message) => readAck(message)),
    (input: Uint8Array) => readAck({ type: 2, flags: 0x200, sequence: 1, portId: 1, payload: input }),
    (input: Uint8Array) => readAck({ type: 3, flags: 0x200, sequence: 1, portId: 1, payload: input }),
  ];

  it.each([
    ["at random", bytes(0, 400)],
    // Lengths and types that make some sense lead deeper.
    [
      "of small numbers",
      fc.array(fc.nat(20), { maxLength: 200 }).map((shorts) => {
        return Uint8Array.from(shorts.flatMap((short) => [short, 0]));
      }),
    ],
  ])("%s do no harm", (_, random) => {
    fc.assert(
      fc.property(random, (input) => {
        for (const read of reads) mayRefuse(() => read(input));
      }),
      { numRuns: 3000 },
    );
  });

  it("made of a message by changing some do no harm", () => {
    const change = fc.tuple(fc.nat(), fc.nat(255));
    fc.assert(
      fc.property(all, fc.array(change, { minLength: 1, maxLength: 8 }), fc.nat(), (values, changes, cut) => {
        fc.pre(Buffer.byteLength(values.text ?? "") <= 100);
        const message = written(values);
        for (const [at, value] of changes) if (message.length > 0) message[at % message.length] = value;
        const input = message.subarray(0, message.length - (cut % 3 === 0 ? cut % (message.length + 1) : 0));
        for (const read of reads) mayRefuse(() => read(input));
      }),
      { numRuns: 2000 },
    );
  });
});

import { describe, expect, test } from "vitest";
import { EngineDatagramOpener, EngineDatagramSealer } from "../src/aead/datagram.ts";
import { EngineRecordOpener, EngineRecordSealer } from "../src/aead/record.ts";
import { engines, IV, KEY, nativeEngine, nativeUnavailable } from "./engines.ts";
import { opener, pattern, sealer, withSuites } from "./record-samples.ts";
import { skipAll } from "./skip-all.ts";

// What a caller without types may pass.
// biome-ignore lint/suspicious/noExplicitAny: that is the test
type Anything = any;

const NO_BYTES: Anything[] = [
  undefined,
  null,
  7,
  "text",
  {},
  [1, 2, 3],
  { length: 32 },
  new ArrayBuffer(32),
  new DataView(new ArrayBuffer(32)),
  new Uint16Array(16),
  new Float64Array(4),
  new Uint8ClampedArray(32),
];

/** An array whose memory went elsewhere. */
function detached(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

describe.each(withSuites(engines))("misuse of $suite on $name", ({ suite, engine }) => {
  test("a key or iv that is none throws TypeError", () => {
    const keys = [
      ...NO_BYTES,
      new Uint8Array(0),
      new Uint8Array(16),
      new Uint8Array(31),
      new Uint8Array(33),
      detached(32),
    ];
    const ivs = [
      ...NO_BYTES,
      new Uint8Array(0),
      new Uint8Array(8),
      new Uint8Array(11),
      new Uint8Array(13),
      detached(12),
    ];
    for (const wrong of keys) {
      expect(() => new EngineRecordSealer(engine, suite, wrong, IV)).toThrow(TypeError);
      expect(() => new EngineRecordOpener(engine, suite, wrong, IV)).toThrow(TypeError);
      expect(() => new EngineDatagramSealer(engine, suite, wrong)).toThrow(TypeError);
      expect(() => new EngineDatagramOpener(engine, suite, wrong)).toThrow(TypeError);
      expect(() => sealer(engine, suite).rekey(wrong, IV)).toThrow(TypeError);
      expect(() => opener(engine, suite).rekey(wrong, IV)).toThrow(TypeError);
    }
    for (const wrong of ivs) {
      expect(() => new EngineRecordSealer(engine, suite, KEY, wrong)).toThrow(TypeError);
      expect(() => new EngineRecordOpener(engine, suite, KEY, wrong)).toThrow(TypeError);
      expect(() => sealer(engine, suite).rekey(KEY, wrong)).toThrow(TypeError);
    }
  });

  test("a refused new key leaves the old one in use", () => {
    const from = sealer(engine, suite);
    const expected = sealer(engine, suite).seal(pattern(9));
    expect(() => from.rekey(KEY, new Uint8Array(3))).toThrow(TypeError);
    expect(from.seal(pattern(9)).equals(expected)).toBe(true);
  });

  test("bytes that are none throw TypeError and count no record", () => {
    const from = sealer(engine, suite);
    const to = opener(engine, suite);
    const datagramFrom = new EngineDatagramSealer(engine, suite, KEY);
    const datagramTo = new EngineDatagramOpener(engine, suite, KEY);
    for (const wrong of [...NO_BYTES, detached(100)]) {
      expect(() => from.seal(wrong)).toThrow(TypeError);
      expect(() => to.open(wrong)).toThrow(TypeError);
      expect(() => datagramFrom.seal(wrong, 0n, KEY)).toThrow(TypeError);
      expect(() => datagramFrom.seal(KEY, 0n, wrong)).toThrow(TypeError);
      expect(() => datagramTo.open(wrong, 0, 0n)).toThrow(TypeError);
    }
    expect(from.records).toBe(0);
    expect(to.open(from.seal(pattern(9)))).toMatchObject({ status: "data", length: 9 });
  });

  test("a wrong type, counter or length of header throws TypeError", () => {
    const from = sealer(engine, suite);
    for (const wrong of [0, -1, 256, 1.5, Number.NaN, "23", null, 23n] as Anything[]) {
      expect(() => from.seal(pattern(9), wrong), String(wrong)).toThrow(TypeError);
    }
    const datagramFrom = new EngineDatagramSealer(engine, suite, KEY);
    const datagramTo = new EngineDatagramOpener(engine, suite, KEY);
    for (const wrong of [-1n, 2n ** 64n, 1, "1", undefined] as Anything[]) {
      expect(() => datagramFrom.seal(KEY, wrong, KEY), String(wrong)).toThrow(TypeError);
      expect(() => datagramTo.open(pattern(60), 13, wrong), String(wrong)).toThrow(TypeError);
    }
    for (const wrong of [-1, 1.5, Number.NaN, "13", undefined] as Anything[]) {
      expect(() => datagramTo.open(pattern(60), wrong, 0n), String(wrong)).toThrow(TypeError);
    }
  });

  test("an unknown suite throws TypeError", () => {
    for (const wrong of ["aes-128-gcm", "", undefined, 0, "toString"] as Anything[]) {
      expect(() => new EngineRecordSealer(engine, wrong, KEY, IV)).toThrow(TypeError);
    }
  });

  test("shared and resizable memory is taken like any other", () => {
    const shared = new Uint8Array(new SharedArrayBuffer(100)).fill(5);
    const resizable = new Uint8Array(new ArrayBuffer(100, { maxByteLength: 200 })).fill(5);
    const expected = sealer(engine, suite).seal(Buffer.alloc(100, 5));
    for (const content of [shared, resizable]) {
      expect(sealer(engine, suite).seal(content).equals(expected)).toBe(true);
    }
    (resizable.buffer as ArrayBuffer).resize(0);
    expect(sealer(engine, suite).seal(resizable)).toHaveLength(0);
  });
});

describe("the add-on by itself", () => {
  skipAll(nativeUnavailable);

  const engine = nativeEngine as Anything;
  const key = engine?.createKey(0, KEY, IV);
  const out = new Uint8Array(31);
  const counts: Anything[] = [undefined, null, "1", -1, 2 ** 53, 1n, {}, Symbol("x")];

  /** Right arguments of each function; any one of them replaced must be refused, and nothing may crash. */
  const CALLS: Record<string, { right: Anything[]; wrong: Anything[][] }> = {
    createKey: { right: [0, KEY, IV], wrong: [[2, -1, "0", null, 1e10], [...NO_BYTES, detached(32)], NO_BYTES] },
    replaceKey: { right: [key, KEY, IV], wrong: [[...NO_BYTES, engine], NO_BYTES, [...NO_BYTES, detached(12)]] },
    sealRecords: {
      right: [key, 0, pattern(9), 23, out],
      wrong: [
        NO_BYTES,
        counts,
        [...NO_BYTES, pattern(8), pattern(17_000)],
        [0, 256, -1, "x"],
        [...NO_BYTES, pattern(30), detached(31)],
      ],
    },
    openRecords: { right: [key, 0, pattern(100)], wrong: [NO_BYTES, counts, NO_BYTES] },
    sealDatagram: {
      right: [key, 0n, pattern(13), pattern(15), out],
      wrong: [
        NO_BYTES,
        [0, -1n, 2n ** 64n, null],
        NO_BYTES,
        [...NO_BYTES, pattern(16)],
        [...NO_BYTES, pattern(30), detached(31)],
      ],
    },
    openDatagram: {
      right: [key, 0n, pattern(60), 13, out],
      wrong: [
        NO_BYTES,
        [0, -1n, 2n ** 64n],
        [...NO_BYTES, detached(60)],
        [12, 14, -1, 61, 2 ** 32 + 14, "x"],
        [...NO_BYTES, pattern(30)],
      ],
    },
  };

  test.each(Object.keys(CALLS))("%s refuses every wrong argument with TypeError", (name) => {
    const { right, wrong } = CALLS[name]!;
    expect(() => engine[name](...right)).not.toThrow();
    for (const [at, values] of wrong.entries()) {
      for (const [i, value] of values.entries()) {
        expect(() => engine[name](...right.with(at, value)), `argument ${at}, value ${i}`).toThrow(TypeError);
      }
    }
    for (let count = 0; count < right.length; count++) {
      expect(() => engine[name](...right.slice(0, count)), `${count} arguments`).toThrow(TypeError);
    }
  });
});

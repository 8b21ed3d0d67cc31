import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { engines, IV, KEY, pairs } from "./engines.ts";
import { addPiece, type Piece, RecordReader } from "./record-reader.ts";
import {
  ALERT,
  chunkSizes,
  cut,
  DATA,
  dataBytes,
  HANDSHAKE,
  opener,
  pattern,
  recordByHand,
  sealer,
  withSuites,
} from "./record-samples.ts";

const message = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("data" as const), size: dataBytes }) },
  fc.record({
    kind: fc.constant("other" as const),
    size: fc.integer({ min: 1, max: 16_384 }),
    type: fc.constantFrom(ALERT, 1, 24, 255),
  }),
  fc.constant({ kind: "key update" as const }),
);
const messages = fc.array(message, { minLength: 1, maxLength: 7 });

/** The key behind the n-th key update. */
const nextKey = (n: number): Buffer => createHash("sha256").update(KEY).update(String(n)).digest();

describe.each(withSuites(pairs))("$suite records sealed by $from and opened by $to", ({ suite, sealing, opening }) => {
  test("any messages and key updates in any chunks arrive as they were sent", () => {
    fc.assert(
      fc.property(messages, chunkSizes, (sent, sizes) => {
        const from = sealer(sealing, suite);
        const expected: Piece[] = [];
        let updates = 0;
        const stream = sent.map((each, i) => {
          const type = each.kind === "data" ? DATA : each.kind === "other" ? each.type : HANDSHAKE;
          const content = each.kind === "key update" ? Buffer.from([24, 0, 0, 1, 0]) : pattern(each.size, i);
          addPiece(expected, type, content);
          const sealed = from.seal(content, type);
          if (each.kind === "key update") from.rekey(nextKey(++updates), IV);
          return sealed;
        });

        const to = opener(opening, suite);
        let seen = 0;
        const reader = new RecordReader(to, ({ type }) => {
          if (type === HANDSHAKE) to.rekey(nextKey(++seen), IV);
        });
        for (const chunk of cut(Buffer.concat(stream), sizes)) reader.push(chunk);

        expect({ bad: reader.bad, waiting: reader.waiting, seen }).toEqual({ bad: false, waiting: 0, seen: updates });
        expect(reader.pieces.map(({ type }) => type)).toEqual(expected.map(({ type }) => type));
        expect(reader.pieces.every(({ content }, i) => content.equals(expected[i]!.content))).toBe(true);
        expect(to.records).toBe(from.records);
      }),
      { numRuns: 40 },
    );
  });

  test("many streams at once do not disturb each other", () => {
    // More than the add-on has cipher contexts, so that contexts change hands between a stream's own records.
    const streams = Array.from({ length: 150 }, (_, i) => {
      const from = sealer(sealing, suite);
      const to = opener(opening, suite);
      from.rekey(nextKey(i), IV);
      to.rekey(nextKey(i), IV);
      return { from, reader: new RecordReader(to) };
    });
    for (let round = 0; round < 4; round++) {
      for (const [i, { from, reader }] of streams.entries()) reader.push(from.seal(pattern(50 + i, round)));
    }
    for (const [i, { reader }] of streams.entries()) {
      const expected = Buffer.concat([0, 1, 2, 3].map((round) => pattern(50 + i, round)));
      expect(reader.pieces).toHaveLength(1);
      expect(reader.pieces[0]!.content.equals(expected)).toBe(true);
    }
  });
});

describe.each(withSuites(engines))("a $suite sealer on $name", ({ suite, engine }) => {
  test("makes the records that node:crypto makes by hand", () => {
    const from = sealer(engine, suite);
    const content = pattern(40_000);
    const expected = [content.subarray(0, 16_384), content.subarray(16_384, 32_768), content.subarray(32_768)];
    const data = (part: Buffer, i: number) => recordByHand(suite, BigInt(i), Buffer.concat([part, Buffer.of(DATA)]));

    expect(from.seal(content).equals(Buffer.concat(expected.map(data)))).toBe(true);
    expect(from.records).toBe(3);
    expect(from.seal(Buffer.of(1, 0), ALERT).equals(recordByHand(suite, 3n, Buffer.of(1, 0, ALERT)))).toBe(true);
    expect(from.records).toBe(4);
  });

  test("counts records beyond 32 bits", () => {
    const number = 2 ** 40 + 3;
    const key = engine.createKey(suite === "aes-256-gcm" ? 0 : 1, KEY, IV);
    const record = Buffer.alloc(22 + 4);
    engine.sealRecords(key, number, Buffer.from("late"), DATA, record);
    expect(record.equals(recordByHand(suite, BigInt(number), Buffer.from("late\x17")))).toBe(true);
  });

  test("starts at record 0 again under a new key", () => {
    const from = sealer(engine, suite);
    const first = from.seal(Buffer.from("same"));
    const second = from.seal(Buffer.from("same"));
    from.rekey(KEY, IV);
    expect(from.records).toBe(0);
    expect(from.seal(Buffer.from("same")).equals(first)).toBe(true);
    expect(second.equals(first)).toBe(false);
  });

  test("makes no record of no data", () => {
    const from = sealer(engine, suite);
    expect(from.seal(new Uint8Array(0))).toHaveLength(0);
    expect(from.records).toBe(0);
    expect(() => from.seal(new Uint8Array(0), ALERT)).toThrow(TypeError);
  });

  test("leaves the content as it was", () => {
    const content = pattern(20_000);
    sealer(engine, suite).seal(content);
    expect(content.equals(pattern(20_000))).toBe(true);
  });
});

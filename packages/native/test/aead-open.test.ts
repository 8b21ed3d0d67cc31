import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { OpenResult } from "../src/aead/index.ts";
import type { EngineRecordOpener } from "../src/aead/record.ts";
import { engines, IV, KEY, nativeEngine, nativeUnavailable, OTHER_KEY } from "./engines.ts";
import {
  ALERT,
  chunkSizes,
  cut,
  DATA,
  dataBytes,
  opener,
  pattern,
  recordByHand,
  sealer,
  withSuites,
} from "./record-samples.ts";
import { skipAll } from "./skip-all.ts";

const BAD: OpenResult = { status: "bad", consumed: 0, offset: 0, length: 0, type: 0 };
const NEED_MORE: OpenResult = { ...BAD, status: "need-more" };

const content = (bytes: Buffer, { offset, length }: OpenResult): Buffer => bytes.subarray(offset, offset + length);

describe.each(withSuites(engines))("a $suite opener on $name", ({ suite, engine }) => {
  test("opens a run of data at once, in place, its contents together", () => {
    const sent = pattern(50_000);
    const bytes = sealer(engine, suite).seal(sent);
    const to = opener(engine, suite);
    const result = to.open(bytes);
    expect(result).toEqual({ status: "data", consumed: 50_000 + 4 * 22, offset: 5, length: 50_000, type: DATA });
    expect(content(bytes, result).equals(sent)).toBe(true);
    expect(to.records).toBe(4);
  });

  test("returns a record of another type alone and leaves alone what it has not consumed", () => {
    const from = sealer(engine, suite);
    const data = [from.seal(pattern(10)), from.seal(pattern(20_000))];
    const alerts = [from.seal(Buffer.of(1, 0), ALERT), from.seal(Buffer.of(2), ALERT)];
    const more = from.seal(pattern(30));
    const bytes = Buffer.concat([...data, ...alerts, more, more.subarray(0, 9)]);
    const untouched = Buffer.from(bytes);
    const to = opener(engine, suite);

    const first = to.open(bytes);
    expect(first).toMatchObject({ status: "data", length: 20_010 });
    let at = first.consumed;
    expect(bytes.subarray(at).equals(untouched.subarray(at))).toBe(true);
    const second = to.open(bytes.subarray(at));
    expect(second).toEqual({ status: "other", consumed: 24, offset: 5, length: 2, type: ALERT });
    expect(content(bytes.subarray(at), second)).toEqual(Buffer.of(1, 0));
    at += second.consumed;
    expect(bytes.subarray(at).equals(untouched.subarray(at))).toBe(true);
    const third = to.open(bytes.subarray(at));
    expect(third).toEqual({ status: "other", consumed: 23, offset: 5, length: 1, type: ALERT });
    at += third.consumed;
    const fourth = to.open(bytes.subarray(at));
    expect(fourth).toMatchObject({ status: "data", consumed: 52 });
    at += fourth.consumed;
    expect(to.open(bytes.subarray(at))).toEqual(NEED_MORE);
    expect(bytes.subarray(at).equals(untouched.subarray(at))).toBe(true);
  });

  test("needs more for every beginning of a record, and takes nothing of it", () => {
    const record = sealer(engine, suite).seal(pattern(8));
    const to = opener(engine, suite);
    for (let size = 0; size < record.length; size++)
      expect(to.open(Buffer.from(record.subarray(0, size)))).toEqual(NEED_MORE);
    expect(to.records).toBe(0);
    expect(to.open(record)).toMatchObject({ status: "data", length: 8 });
  });

  test("refuses a stream that continues behind a cut record", () => {
    const from = sealer(engine, suite);
    const first = from.seal(pattern(8));
    // A length put together from both may ask for as much as this.
    const second = from.seal(pattern(16_384));
    for (let size = 1; size < first.length; size++) {
      expect(opener(engine, suite).open(Buffer.concat([first.subarray(0, size), second])).status).toBe("bad");
    }
  });

  test("refuses a record with any one bit flipped", () => {
    const record = sealer(engine, suite).seal(Buffer.from("payload!"));
    // A flipped length may ask for more bytes first: there are enough.
    const behind = Buffer.alloc(17_000);
    for (let bit = 0; bit < record.length * 8; bit++) {
      const forged = Buffer.concat([record, behind]);
      forged[bit >> 3]! ^= 1 << (bit & 7);
      const to = opener(engine, suite);
      expect(to.open(forged), `bit ${bit}`).toEqual(BAD);
      expect(to.open(Buffer.from(record)), `after bit ${bit}`).toEqual(BAD);
    }
  });

  test("delivers the data before a forged record, and then nothing more", () => {
    const from = sealer(engine, suite);
    const good = from.seal(pattern(30_000));
    const forged = from.seal(pattern(100));
    const next = from.seal(pattern(100));
    forged[50]! ^= 1;
    const to = opener(engine, suite);
    const bytes = Buffer.concat([good, forged, next]);
    const result = to.open(bytes);
    expect(result).toMatchObject({ status: "data", consumed: good.length, length: 30_000 });
    expect(content(bytes, result).equals(pattern(30_000))).toBe(true);
    expect(to.open(Buffer.alloc(0))).toEqual(BAD);
    expect(to.open(bytes.subarray(result.consumed))).toEqual(BAD);
    to.rekey(KEY, IV);
    expect(to.open(sealer(engine, suite).seal(pattern(1)))).toEqual(BAD);
  });

  test("refuses a wrong header at its first wrong byte", () => {
    const headers = ["16", "00", "1702", "170302", "17030300", "1703030011", "1703034012", "170303ffff", "474554202f"];
    const early = (hex: string) => opener(engine, suite).open(Buffer.from(hex, "hex")).status;
    expect(Object.fromEntries(headers.map((hex) => [hex, early(hex)]))).toEqual({
      "16": "bad",
      "00": "bad",
      "1702": "bad",
      "170302": "bad",
      // Its length is not there yet.
      "17030300": "need-more",
      "1703030011": "bad",
      "1703034012": "bad",
      "170303ffff": "bad",
      "474554202f": "bad",
    });
    expect(["1703030012", "1703034011"].map(early)).toEqual(["need-more", "need-more"]);
  });

  test("refuses sealed records that are empty, padded or of type 0", () => {
    const plaintexts = {
      empty: [DATA],
      emptyAlert: [ALERT],
      nothing: [],
      typeZero: [1, 2, 0],
      padded: [1, 2, DATA, 0, 0],
    };
    for (const [name, plaintext] of Object.entries(plaintexts)) {
      const record = recordByHand(suite, 0n, Uint8Array.from(plaintext));
      expect(opener(engine, suite).open(record), name).toEqual(BAD);
    }
  });

  test("takes the longest record and none that is longer", () => {
    const plaintext = (size: number) => Buffer.concat([pattern(size), Buffer.of(DATA)]);
    const longest = recordByHand(suite, 0n, plaintext(16_384));
    expect(opener(engine, suite).open(longest)).toMatchObject({ status: "data", length: 16_384 });
    expect(opener(engine, suite).open(recordByHand(suite, 0n, plaintext(16_385)))).toEqual(BAD);
  });

  test("refuses repeated, reordered and dropped records", () => {
    const from = sealer(engine, suite);
    const [a, b, c] = [from.seal(pattern(5)), from.seal(pattern(5)), from.seal(pattern(5))];
    const statuses = (...records: Buffer[]) => {
      const to = opener(engine, suite);
      return records.map((record) => to.open(Buffer.from(record)).status);
    };
    expect(statuses(a, b, c)).toEqual(["data", "data", "data"]);
    expect(statuses(a, a)).toEqual(["data", "bad"]);
    expect(statuses(b)).toEqual(["bad"]);
    expect(statuses(a, c)).toEqual(["data", "bad"]);
  });

  test("opens under the new key only, from record 0", () => {
    const from = sealer(engine, suite);
    const to = opener(engine, suite);
    to.open(from.seal(pattern(5)));
    const old = from.seal(pattern(6));
    from.rekey(OTHER_KEY, IV);
    to.rekey(OTHER_KEY, IV);
    expect(to.records).toBe(0);
    expect(to.open(from.seal(pattern(7)))).toMatchObject({ status: "data", length: 7 });
    expect(to.open(old)).toEqual(BAD);
  });

  test("refuses another key, iv and suite", () => {
    const record = sealer(engine, suite).seal(pattern(5));
    const changed = { key: [OTHER_KEY, IV], iv: [KEY, Buffer.alloc(12)] } as const;
    for (const [what, [key, iv]] of Object.entries(changed)) {
      const to = opener(engine, suite);
      to.rekey(key, iv);
      expect(to.open(Buffer.from(record)), what).toEqual(BAD);
    }
    const otherSuite = suite === "aes-256-gcm" ? "chacha20-poly1305" : "aes-256-gcm";
    expect(opener(engine, otherSuite).open(Buffer.from(record))).toEqual(BAD);
  });

  test("survives any garbage and delivers none of it", () => {
    const start = fc.constantFrom("", "17", "170303", "1703030020", "1703034011", "1703030012");
    fc.assert(
      fc.property(start, fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 5 }), (hex, chunks) => {
        const to = opener(engine, suite);
        let bytes = Buffer.from(hex, "hex");
        for (const chunk of chunks) {
          bytes = Buffer.concat([bytes, chunk]);
          expect(to.open(bytes).status).toMatch(/^(bad|need-more)$/);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe.each(withSuites([{}]))("the two implementations of $suite", ({ suite }) => {
  skipAll(nativeUnavailable);

  const mutation = fc.record({ at: fc.nat(), xor: fc.integer({ min: 1, max: 255 }) });
  const sent = fc.array(fc.record({ size: dataBytes, type: fc.constantFrom(DATA, DATA, DATA, ALERT) }), {
    minLength: 1,
    maxLength: 4,
  });

  /** Every result and, behind each call, every byte that means anything. */
  function trace(to: EngineRecordOpener, stream: Buffer, sizes: number[]): unknown[] {
    const steps: unknown[] = [];
    let bytes = Buffer.alloc(0);
    for (const chunk of cut(stream, sizes)) {
      bytes = Buffer.concat([bytes, chunk]);
      let result: OpenResult;
      do {
        result = to.open(bytes);
        steps.push(result, to.records, content(bytes, result).toString("latin1"));
        bytes = bytes.subarray(result.consumed);
      } while (result.consumed > 0);
      if (result.status === "bad") return steps;
      steps.push(bytes.toString("latin1"));
    }
    return steps;
  }

  test("agree on every result for sealed, damaged and cut streams", () => {
    fc.assert(
      fc.property(sent, fc.option(mutation), fc.option(fc.nat()), chunkSizes, (list, damage, end, sizes) => {
        const from = sealer(nativeEngine!, suite);
        let stream = Buffer.concat(list.map(({ size, type }, i) => from.seal(pattern(size, i), type)));
        if (damage) stream[damage.at % stream.length]! ^= damage.xor;
        if (end !== null) stream = stream.subarray(0, end % stream.length);
        const [byHand, byNative] = [engines[0]!.engine, nativeEngine!].map((engine) =>
          trace(opener(engine, suite), stream, sizes),
        );
        expect(byNative).toEqual(byHand);
      }),
      { numRuns: 120 },
    );
  });
});

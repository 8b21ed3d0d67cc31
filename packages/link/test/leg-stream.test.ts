import fc from "fast-check";
import { expect, test } from "vitest";
import { LegStream } from "../src/leg/leg-stream.ts";
import { agreement } from "./agreement.ts";

const keys = agreement();

/** Less than a record's header, less than a record, several records. */
const size = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 100_000 }));

function legs(plain: boolean): { sender: LegStream; receiver: LegStream } {
  const leg = { openId: 0, attempt: 0, plain, recordsPerKey: 5 };
  return {
    sender: new LegStream({ generation: keys.initiator, ...leg }),
    receiver: new LegStream({ generation: keys.responder, ...leg }),
  };
}

/** Bytes that are no pattern of each other, in memory of their own as a socket gives them. */
function bytesOf(length: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let index = 0; index < length; index++) bytes[index] = (index * 31 + (index >> 8) + seed) & 0xff;
  return bytes;
}

/** Cut into chunks of these lengths, again and again. */
function* chunksOf(bytes: Buffer, lengths: readonly number[]): Generator<Buffer> {
  for (let from = 0, turn = 0; from < bytes.length; turn++) {
    const part = bytes.subarray(from, from + lengths[turn % lengths.length]!);
    const chunk = Buffer.allocUnsafeSlow(part.length);
    chunk.set(part);
    yield chunk;
    from += part.length;
  }
}

test.for([
  { mode: "sealed", plain: false },
  { mode: "plain", plain: true },
])("$mode: what was written comes out, however the leg cuts it and whatever is kept of it", ({ plain }) => {
  fc.assert(
    fc.property(
      fc.array(size, { minLength: 1, maxLength: 12 }),
      fc.array(size, { minLength: 1, maxLength: 12 }),
      fc.infiniteStream(fc.boolean()),
      (writes, cuts, spent) => {
        const { sender, receiver } = legs(plain);
        const said = writes.map((length, index) => bytesOf(length, index));
        const sent = Buffer.concat([
          sender.preface(),
          ...said.map((chunk) => sender.seal(chunk)),
          sender.end() ?? Buffer.alloc(0),
        ]);
        const heard: Buffer[] = [];
        for (const chunk of chunksOf(sent, cuts)) {
          receiver.receive(chunk, (event) => {
            if (event.is !== "data") return;
            const isSpent = spent.next().value;
            // What is not spent must stay as it is for as long as anybody refers to it.
            heard.push(isSpent ? Buffer.from(event.data) : event.data);
            if (isSpent) event.spent?.();
          });
        }
        expect(Buffer.concat(heard).equals(Buffer.concat(said))).toBe(true);
        expect(receiver.ended).toBe(!plain);
      },
    ),
    { numRuns: 60 },
  );
});

test("the memory of a chunk is freed when all that came in it is spent, and no sooner", () => {
  const { sender, receiver } = legs(false);
  receiver.receive(sender.preface(), () => undefined);
  // The end of a record that was cut, a run of whole ones, the beginning of another.
  const sent = Buffer.concat([1, 2, 3, 4].map((seed) => sender.seal(bytesOf(16_384, seed))));
  const spent: (() => void)[] = [];
  const receive = (bytes: Buffer): Buffer => {
    const chunk = Buffer.allocUnsafeSlow(bytes.length);
    chunk.set(bytes);
    receiver.receive(chunk, (event) => event.is === "data" && event.spent && spent.push(event.spent));
    return chunk;
  };
  expect(receive(sent.subarray(0, 10_000)).length, "all of it was copied").toBe(0);
  const chunk = receive(sent.subarray(10_000, -5000));
  const [cut, run] = spent as [() => void, () => void];
  expect(spent.length).toBe(2);
  expect(chunk.length).toBe(sent.length - 15_000);
  cut();
  expect(chunk.length, "that record had memory of its own").toBe(sent.length - 15_000);
  run();
  expect(chunk.length).toBe(0);
});

test.for([
  { what: "a body too short for any record", header: [0x17, 3, 3, 0, 17] },
  { what: "no body at all", header: [0x17, 3, 3, 0, 0] },
  { what: "a body longer than a record may be", header: [0x17, 3, 3, 0xff, 0xff] },
  { what: "another kind of record", header: [0x16, 3, 3, 0, 40] },
])("a record's header is refused, whole or in pieces: $what", ({ header }) => {
  for (const cut of [1, 3, 5]) {
    const { sender, receiver } = legs(false);
    receiver.receive(sender.preface(), () => undefined);
    const receive = (): void => {
      for (const chunk of chunksOf(Buffer.from([...header, ...Array<number>(40).fill(0)]), [cut])) {
        receiver.receive(chunk, () => undefined);
      }
    };
    expect(receive).toThrow(expect.objectContaining({ code: "bad-record" }));
  }
});

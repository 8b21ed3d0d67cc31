import { thePump } from "@isthmus/native/pump";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { MOST_SPLICE_BYTES, SocketSplicer } from "../src/index.ts";
import type { TestLeg } from "../src/testing.ts";
import { SpliceBench } from "./spliced-legs.ts";

type Step = { do: "write"; bytes: number } | { do: "pause" } | { do: "resume" } | { do: "turn" };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("write" as const), bytes: fc.integer({ min: 1, max: 2000 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("write" as const), bytes: fc.integer({ min: 1, max: 300_000 }) }),
  },
  { weight: 1, arbitrary: fc.constant({ do: "pause" as const }) },
  { weight: 1, arbitrary: fc.constant({ do: "resume" as const }) },
  { weight: 2, arbitrary: fc.constant({ do: "turn" as const }) },
);

/** What one side does: its steps, and how it ends. */
const side = fc.record({ steps: fc.array(step, { maxLength: 12 }), last: fc.constantFrom("end", "end", "reset") });

/** Bytes that tell where in the stream they belong. */
function content(salt: number, from: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let n = 0; n < length; n++) bytes[n] = ((from + n) * 31 + ((from + n) >> 8) * 7 + salt) & 0xff;
  return bytes;
}

/** Plays one side's steps; gives what it wrote in all. */
async function play(end: TestLeg, salt: number, { steps, last }: { steps: Step[]; last: string }): Promise<number> {
  let written = 0;
  for (const what of steps) {
    if (what.do === "write") {
      end.write(content(salt, written, what.bytes));
      written += what.bytes;
    } else if (what.do === "turn") await new Promise(setImmediate);
    else end.socket[what.do]();
  }
  if (last === "end") end.end();
  else end.reset();
  end.socket.resume();
  return written;
}

const WAYS = [
  { way: "in this thread", isPumped: false, make: () => new SocketSplicer({}) },
  ...(thePump() ? [{ way: "by the pump", isPumped: true, make: () => new SocketSplicer() }] : []),
];

describe.each(WAYS)("a splice $way", ({ isPumped, make }) => {
  it("each side gets exactly the other's bytes and an end, or a part of them and a reset", {
    timeout: 60_000,
  }, async () => {
    const bench = await SpliceBench.start({}, make());
    await fc.assert(
      fc.asyncProperty(side, side, fc.nat({ max: 6 }), async (scriptA, scriptB, early) => {
        const [a, b] = [await bench.leg(), await bench.leg()];
        const played = Promise.all([play(a.end, 1, scriptA), play(b.end, 2, scriptB)]);
        for (let turn = 0; turn < early; turn++) await new Promise(setImmediate);
        const closed = bench.splice([a.waiting.take(), b.waiting.take()]);
        const [fromA, fromB] = await played;
        const [endOfA, endOfB] = await Promise.all([a.end.whenEnded(), b.end.whenEnded()]);
        const isOrderly = scriptA.last === "end" && scriptB.last === "end";

        for (const [end, how, sent, salt, sender] of [
          [b.end, endOfB, fromA, 1, scriptA],
          [a.end, endOfA, fromB, 2, scriptB],
        ] as const) {
          expect(end.received.equals(content(salt, 0, end.length))).toBe(true);
          expect(end.length).toBeLessThanOrEqual(sent);
          if (how === "end") {
            expect(sender.last).toBe("end");
            expect(end.length).toBe(sent);
          } else expect(isOrderly).toBe(false);
        }
        expect(await closed).toBe(isOrderly ? "finished" : "reset");
        expect(bench.tally.splices).toBe(0);
        a.end.socket.destroy();
        b.end.socket.destroy();
      }),
      { numRuns: 80 },
    );
  });

  it("keeps no more than its bound however slowly both sides read, and loses nothing", {
    timeout: 60_000,
  }, async () => {
    const bench = await SpliceBench.start({}, make());
    const [a, b] = [await bench.leg(), await bench.leg()];
    a.end.socket.pause();
    b.end.socket.pause();
    const legs = [a.waiting.take(), b.waiting.take()] as const;
    const total = 40_000_000;
    for (const { end } of [a, b]) {
      for (let from = 0; from < total; from += 1_000_000) end.write(content(3, from, 1_000_000));
    }
    void bench.splice([...legs]);
    const kept = (): number => legs.reduce((sum, { socket }) => sum + socket.readableLength + socket.writableLength, 0);
    let most = 0;
    let moved = -1;
    // All buffers of the system are full when nothing moves any more.
    await vi.waitUntil(
      () => {
        most = Math.max(most, kept());
        const isStill = bench.tally.bytes === moved;
        moved = bench.tally.bytes;
        return isStill;
      },
      { timeout: 30_000, interval: 200 },
    );
    expect(moved).toBeLessThan(2 * total);
    // The pump's bound is the size of its one buffer for each way.
    if (!isPumped) expect(kept()).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(MOST_SPLICE_BYTES);
    for (const { end } of [a, b]) end.socket.resume();
    for (const { end } of [a, b]) expect((await end.bytes(total)).equals(content(3, 0, total))).toBe(true);
  });

  it("keeps no more of a waiting leg than 64 KiB and one chunk, and delivers it first", async () => {
    const bench = await SpliceBench.start({}, make());
    const [a, b] = [await bench.leg(), await bench.leg()];
    const sent = content(5, 0, 2_000_000);
    // Single bytes first: they must not cost an object each.
    for (let n = 0; n < 500; n++) a.end.write(sent.subarray(n, n + 1));
    a.end.write(sent.subarray(500));
    const { socket } = a.waiting;
    await vi.waitUntil(() => socket.readableLength > 0, { timeout: 10_000, interval: 5 });
    const leg = a.waiting.take();
    expect(leg.early.length).toBe(64 * 1024);
    expect(leg.early.length + socket.readableLength).toBeLessThanOrEqual(128 * 1024);
    void bench.splice([leg, b.waiting.take()]);
    expect((await b.end.bytes(sent.length)).equals(sent)).toBe(true);
  });

  it("notices a waiting leg that is reset", async () => {
    const bench = await SpliceBench.start({}, make());
    const { end, gone } = await bench.leg();
    end.write("preface");
    end.reset();
    await gone;
  });

  it("passes what was sent and ended before the other leg came", async () => {
    const bench = await SpliceBench.start({}, make());
    const [a, b] = [await bench.leg(), await bench.leg()];
    a.end.write("request");
    a.end.end();
    await vi.waitUntil(() => a.waiting.socket.readableEnded, { timeout: 10_000, interval: 5 });
    const closed = bench.splice([a.waiting.take(), b.waiting.take()]);
    expect((await b.end.bytes(7)).toString()).toBe("request");
    expect(await b.end.whenEnded()).toBe("end");
    b.end.write("answer");
    b.end.end();
    expect((await a.end.bytes(6)).toString()).toBe("answer");
    expect(await closed).toBe("finished");
  });

  it("sends a held chunk before the end that followed it", async () => {
    const bench = await SpliceBench.start({ bytesPerSecond: 200_000 }, make());
    const [a, b] = [await bench.leg(), await bench.leg()];
    const closed = bench.splice([a.waiting.take(), b.waiting.take()]);
    const sent = content(7, 0, 200_000);
    a.end.write(sent);
    a.end.end();
    b.end.end();
    expect(await b.end.whenEnded()).toBe("end");
    expect(b.end.received.equals(sent)).toBe(true);
    expect(await closed).toBe("finished");
  });

  it("refuses an allocation that it does not know", async () => {
    const bench = await SpliceBench.start({}, make());
    const [a, b] = [await bench.leg(), await bench.leg()];
    bench.splicer.close("a", "released");
    expect(await bench.splice([a.waiting.take(), b.waiting.take()])).toBe("unknown-allocation");
    expect(await Promise.all([a.end.whenEnded(), b.end.whenEnded()])).toEqual(["reset", "reset"]);
    expect(bench.tally.closed).toEqual({ "unknown-allocation": 1 });
  });
});

import type { Code, Rendezvous } from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { attemptTimeoutMs, OPEN_DEADLINE_MS, Opener, type OpenerCommand } from "../src/open/opener.ts";

const ALLOCATION = "00000000000000aa";
const TIMEOUT_MS = 1000;

/** The path that each attempt is offered; `null`: none is up. */
type Offer = Rendezvous["at"] | null;

function place(at: Rendezvous["at"], attempt: number): Rendezvous {
  if (at === "direct") return { at };
  if (at === "stream") return { at, allocation: ALLOCATION };
  return { at, allocation: ALLOCATION, cell: attempt, mode: "passive" };
}

const code = fc.constantFrom<Code[]>(
  "service-down",
  "already-joined",
  "repeated-open",
  "not-allowed",
  "unsupported-rendezvous",
  "unknown-allocation",
  "no-path",
);

/** `back` is how many attempts ago the event belongs to: events of older attempts arrive late. */
const event = fc.record({
  is: fc.constantFrom("tick", "retry", "legLost", "prefaceBad", "prefaceValid", "refused", "abandon", "nothing"),
  back: fc.integer({ min: -1, max: 2 }),
  code,
  afterMs: fc.constantFrom(0, 0, 1, 100, 400, 1000, 3000),
});

describe("an opener, whatever happens in whatever order", () => {
  const run = (offers: Offer[], events: (typeof event extends fc.Arbitrary<infer E> ? E : never)[]) => {
    let now = 0;
    const chosen: (Rendezvous | undefined)[] = [];
    const opener = new Opener(now, TIMEOUT_MS, (attempt) => {
      const offer = offers[chosen.length % offers.length]!;
      chosen.push(offer === null ? undefined : place(offer, attempt));
      return chosen.at(-1);
    });
    const log: { at: number; command: OpenerCommand }[] = [];
    const take = (commands: OpenerCommand[]): void => {
      for (const command of commands) log.push({ at: now, command });
    };
    take(opener.tick(now));
    for (const { is, back, code, afterMs } of events) {
      // Timers are never late here: what is due until then happens first.
      const until = now + afterMs;
      for (let due = opener.wakeAt; due !== undefined && due <= until; due = opener.wakeAt) {
        now = Math.max(now, due);
        take(opener.tick(now));
      }
      now = until;
      const attempt = opener.attempt - back;
      if (is === "tick") take(opener.tick(now));
      if (is === "retry") take(opener.retry(now));
      if (is === "legLost") take(opener.legLost(attempt, now));
      if (is === "prefaceBad") take(opener.prefaceBad(attempt, now));
      if (is === "prefaceValid") take(opener.prefaceValid(attempt));
      if (is === "refused") take(opener.refused(attempt, code, now));
      if (is === "abandon") take(opener.abandon());
    }
    for (let due = opener.wakeAt; due !== undefined; due = opener.wakeAt) {
      now = Math.max(now, due);
      take(opener.tick(now));
    }
    return { opener, log };
  };

  it("ends joined or failed, once, in time, with every leg dropped that is not joined", () => {
    const offers = fc.array(fc.constantFrom<Offer[]>("direct", "cell", "stream", null), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(offers, fc.array(event, { maxLength: 40 }), (offered, events) => {
        const { opener, log } = run(offered, events);
        const ends = log.filter(({ command }) => command.do === "join" || command.do === "fail");
        expect(ends.length).toBe(1);
        expect(ends[0]!.at).toBeLessThanOrEqual(OPEN_DEADLINE_MS);
        expect(log.at(-1)).toBe(ends[0]);
        expect(opener.phase).toBe(ends[0]!.command.do === "join" ? "joined" : "failed");
        expect(opener.wakeAt).toBeUndefined();

        // One leg at a time, announced before it is dialled; attempts count up.
        let dialled: { attempt: number; rendezvous: Rendezvous } | undefined;
        let last = -1;
        let isAnnounced = false;
        for (const { command } of log) {
          switch (command.do) {
            case "announce":
              expect(command.attempt).toBe(last + 1);
              isAnnounced = true;
              break;
            case "dial":
              expect(isAnnounced && dialled === undefined).toBe(true);
              isAnnounced = false;
              last = command.attempt;
              dialled = command;
              break;
            case "drop":
              expect(dialled).toMatchObject({ attempt: command.attempt, rendezvous: command.rendezvous });
              dialled = undefined;
              break;
            case "join":
              expect(dialled).toMatchObject({ attempt: command.attempt, rendezvous: command.rendezvous });
              break;
            case "cancel":
              expect(command.attempt).toBe(last);
              break;
            case "fail":
              expect(dialled).toBeUndefined();
              break;
          }
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("calls a leg failed for its way alone: not when the application left or the peer refused", () => {
    const opener = new Opener(0, TIMEOUT_MS, () => ({ at: "direct" }));
    opener.tick(0);
    expect(opener.legLost(0, 10)[0]).toMatchObject({ do: "drop", outcome: "failed" });
    expect(opener.refused(1, "service-down", 20)).toMatchObject([{ do: "drop", outcome: "given-up" }, { do: "fail" }]);

    const other = new Opener(0, TIMEOUT_MS, () => ({ at: "direct" }));
    other.tick(0);
    expect(other.abandon("cancelled")).toMatchObject([
      { do: "drop", outcome: "given-up" },
      { do: "cancel", attempt: 0 },
      { do: "fail", code: "cancelled" },
    ]);
  });

  it("waits for a path, tries at once when one comes up, and pauses from the third attempt on", () => {
    let isUp = false;
    const opener = new Opener(0, TIMEOUT_MS, () => (isUp ? { at: "direct" } : undefined));
    expect(opener.tick(0)).toEqual([]);
    expect(opener.wakeAt).toBe(OPEN_DEADLINE_MS);
    isUp = true;
    expect(opener.retry(500)).toMatchObject([{ do: "announce" }, { do: "dial", attempt: 0 }]);
    expect(opener.legLost(0, 600)).toMatchObject([{ do: "drop" }, { do: "announce" }, { do: "dial", attempt: 1 }]);
    expect(opener.legLost(1, 700)).toMatchObject([{ do: "drop" }]);
    expect(opener.wakeAt).toBe(950);
  });

  it("gives an attempt three round trips, from 1 to 3 s", () => {
    const alone = [undefined, 1, 400, 900, 5000].map((rttMs) => attemptTimeoutMs(rttMs, 0));
    expect(alone).toEqual([1000, 1000, 1200, 2700, 3000]);
  });

  it("gives more where many are under way, but leaves some for another attempt", () => {
    expect([1, 100, 1000].map((others) => attemptTimeoutMs(1, others))).toEqual([1005, 1500, 5000]);
    expect([10, 2000, 9000].map((usualMs) => attemptTimeoutMs(1, 100, usualMs))).toEqual([1500, 2500, 3500]);
  });
});

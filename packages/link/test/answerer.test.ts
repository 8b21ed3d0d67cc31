import type { Code } from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Answerer, type AnswererCommand } from "../src/open/answerer.ts";
import { OPEN_DEADLINE_MS } from "../src/open/opener.ts";

const TIMEOUT_MS = 1000;
const DEADLINE_MS = OPEN_DEADLINE_MS + 2000;

const event = fc.record({
  is: fc.constantFrom("open", "open", "tick", "legLost", "cannotMeet", "prefaceValid", "serviceLost", "cancel"),
  /** Of the attempt, as the message or leg says: copies, late ones, and jumps. */
  attempt: fc.integer({ min: 0, max: 5 }),
  afterMs: fc.constantFrom(0, 0, 1, 100, 700, 1500),
});

describe("an answerer, whatever happens in whatever order", () => {
  it("joins at most once, never what it dropped, and ends in time unless it joined", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 50 }), (events) => {
        let now = 0;
        const answerer = new Answerer(now, TIMEOUT_MS);
        const log: { at: number; command: AnswererCommand }[] = [];
        const take = (commands: AnswererCommand[]): void => {
          for (const command of commands) log.push({ at: now, command });
        };
        const sleep = (until: number): void => {
          for (let due = answerer.wakeAt; due !== undefined && due <= until; due = answerer.wakeAt) {
            now = Math.max(now, due);
            take(answerer.tick(now));
          }
          now = Math.max(now, Math.min(until, DEADLINE_MS));
        };
        take(answerer.open(0, { at: "direct" }, now));
        for (const { is, attempt, afterMs } of events) {
          sleep(now + afterMs);
          if (is === "open") take(answerer.open(attempt, { at: "direct" }, now));
          if (is === "tick") take(answerer.tick(now));
          if (is === "legLost") take(answerer.legLost(attempt));
          if (is === "cannotMeet") take(answerer.cannotMeet(attempt, "no-path"));
          if (is === "prefaceValid") take(answerer.prefaceValid(attempt));
          if (is === "serviceLost") take(answerer.serviceLost("service-down"));
          if (is === "cancel") take(answerer.cancel(attempt));
        }
        sleep(Number.POSITIVE_INFINITY);

        let dialled: number | undefined;
        let last = -1;
        let isJoined = false;
        let isEnded = false;
        for (const { at, command } of log) {
          expect(isEnded).toBe(false);
          switch (command.do) {
            case "dial":
              expect(isJoined || dialled !== undefined).toBe(false);
              expect(command.attempt).toBeGreaterThan(last);
              last = command.attempt;
              dialled = command.attempt;
              break;
            case "drop":
              expect(isJoined).toBe(false);
              expect(command.attempt).toBe(dialled);
              dialled = undefined;
              break;
            case "join":
              expect(isJoined).toBe(false);
              expect(command.attempt).toBe(dialled);
              isJoined = true;
              break;
            case "refuse":
              // Once joined, the only thing to say is that it is.
              if (isJoined) expect(command.code).toBe("already-joined" satisfies Code);
              break;
            case "end":
              expect(isJoined).toBe(false);
              expect(dialled).toBeUndefined();
              expect(at).toBeLessThanOrEqual(DEADLINE_MS);
              isEnded = true;
              break;
          }
        }
        expect(isEnded).toBe(!isJoined);
        expect(answerer.phase).toBe(isJoined ? "joined" : "ended");
      }),
      { numRuns: 2000 },
    );
  });

  it("refuses further attempts of what is joined, so that no byte is sent again", () => {
    const answerer = new Answerer(0, TIMEOUT_MS);
    answerer.open(0, { at: "direct" }, 0);
    answerer.prefaceValid(0);
    expect(answerer.open(0, { at: "direct" }, 1)).toEqual([]);
    expect(answerer.open(1, { at: "direct" }, 1)).toEqual([{ do: "refuse", attempt: 1, code: "already-joined" }]);
    expect(answerer.cancel(1)).toEqual([]);
    expect(answerer.serviceLost("service-down")).toEqual([]);
  });

  it("says that the service is down before its leg is reset", () => {
    const answerer = new Answerer(0, TIMEOUT_MS);
    answerer.open(0, { at: "direct" }, 0);
    expect(answerer.serviceLost("service-down")).toEqual([
      { do: "refuse", attempt: 0, code: "service-down" },
      { do: "drop", attempt: 0, rendezvous: { at: "direct" }, outcome: "given-up", later: true },
      { do: "end", code: "service-down" },
    ]);
  });
});

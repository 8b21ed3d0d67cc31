import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  begin,
  deadlineOf,
  type Negotiation,
  type NegotiationCommand,
  type NegotiationInput,
  type NegotiationTimes,
  phaseOf,
  step,
} from "../../src/negotiation/machine.ts";

const TIMES: NegotiationTimes = { answerMs: 8000, subscriberMs: 5000 };

/** Feeds inputs at given times and gathers what is to be done. */
class Run {
  state: Negotiation;
  now = 0;
  readonly commands: NegotiationCommand["do"][] = [];
  code: string | undefined;

  constructor(waitMs: number) {
    this.state = begin(waitMs, TIMES, 0);
  }

  at(now: number, ...inputs: NegotiationInput[]): this {
    this.now = now;
    for (const input of inputs) {
      const { state, commands } = step(this.state, input, TIMES, now);
      this.state = state;
      for (const command of commands) {
        this.commands.push(command.do);
        if (command.do === "fail") this.code = command.code;
      }
    }
    return this;
  }

  count(command: NegotiationCommand["do"]): number {
    return this.commands.filter((made) => made === command).length;
  }
}

const present = { is: "provider-present", allocation: true } as const;

describe("a negotiation", () => {
  test("asks and allocates at the same time, and tells when both are there", () => {
    const run = new Run(0).at(0, present);
    expect(run.commands).toEqual(["ask", "allocate"]);
    expect(phaseOf(run.state)).toBe("asked");
    run.at(10, { is: "allocated" });
    expect(phaseOf(run.state)).toBe("allocated");
    run.at(20, { is: "accepted" });
    expect(run.commands).toEqual(["ask", "allocate", "tell"]);
    expect(phaseOf(run.state)).toBe("told");
  });

  test("needs no IST where the two can meet directly", () => {
    const run = new Run(0).at(0, { is: "provider-present", allocation: false }, { is: "accepted" });
    expect(run.commands).toEqual(["ask", "tell"]);
  });

  test("allocates after all when the provider comes back unreachable", () => {
    const run = new Run(0).at(0, { is: "provider-present", allocation: false }, { is: "provider-lost" });
    run.at(100, present, { is: "accepted" });
    expect(run.commands).toEqual(["ask", "ask", "allocate"]);
    expect(run.at(200, { is: "allocated" }).commands.at(-1)).toBe("tell");
  });

  test("with an absent provider fails at once, or after the time that was asked for", () => {
    expect(new Run(0).at(0, { is: "time" }).code).toBe("provider-away");
    const waiting = new Run(60_000).at(59_999, { is: "time" });
    expect(phaseOf(waiting.state)).toBe("waiting");
    expect(deadlineOf(waiting.state)).toBe(60_000);
    expect(waiting.at(60_000, { is: "time" }).code).toBe("provider-away");
  });

  test("with a provider that does not answer ends in its time, and names it", () => {
    const run = new Run(0).at(0, present, { is: "allocated" }).at(7999, { is: "time" });
    expect(run.code).toBeUndefined();
    run.at(8000, { is: "time" });
    expect(run.code).toBe("timeout");
    expect(run.commands).toEqual(["ask", "allocate", "fail", "give-back"]);
  });

  test("asks again when the provider comes back, but not for an allocation that it has", () => {
    const run = new Run(0).at(0, present, { is: "allocated" }, { is: "provider-lost" }).at(3000, present);
    expect(run.commands).toEqual(["ask", "allocate", "ask"]);
    expect(run.at(3100, { is: "accepted" }).commands.at(-1)).toBe("tell");
  });

  test("with a provider that logs out is over at once", () => {
    expect(new Run(0).at(0, present).at(50, { is: "provider-gone" }).code).toBe("provider-away");
    const waiting = new Run(10_000).at(0, present).at(50, { is: "provider-gone" });
    expect(phaseOf(waiting.state)).toBe("waiting");
  });

  test("waits a moment for a subscriber whose session broke", () => {
    const lost = new Run(0).at(0, present).at(1000, { is: "subscriber-lost" }, { is: "accepted" }, { is: "allocated" });
    expect(lost.count("tell")).toBe(0);
    expect(new Run(0).at(0, present).at(1000, { is: "subscriber-lost" }).at(6000, { is: "time" }).code).toBe(
      "disconnected",
    );
    lost.at(2000, { is: "subscriber-back" });
    expect(lost.count("tell")).toBe(1);
  });

  test("that failed gives a late allocation back, once", () => {
    const run = new Run(0).at(0, present, { is: "refused", code: "not-allowed" });
    expect(run.code).toBe("not-allowed");
    run.at(10, { is: "allocated" }, { is: "allocated" });
    expect(run.count("give-back")).toBe(1);
  });

  test("without an IST fails as the IST says, whatever the provider said", () => {
    const run = new Run(0).at(0, present, { is: "accepted" }, { is: "not-allocated", code: "no-ist" });
    expect(run.code).toBe("no-ist");
  });
});

const anyInput: fc.Arbitrary<NegotiationInput> = fc.oneof(
  fc.record({ is: fc.constant("provider-present" as const), allocation: fc.boolean() }),
  fc.constantFrom<NegotiationInput>(
    { is: "provider-lost" },
    { is: "provider-gone" },
    { is: "accepted" },
    { is: "refused", code: "not-allowed" },
    { is: "allocated" },
    { is: "not-allocated", code: "no-ist" },
    { is: "subscriber-lost" },
    { is: "subscriber-back" },
    { is: "withdrawn", code: "revoked" },
    { is: "time" },
  ),
);

const anyHistory = fc.record({
  waitMs: fc.constantFrom(0, 4000, 60_000),
  inputs: fc.array(fc.tuple(fc.integer({ min: 0, max: 4000 }), anyInput), { maxLength: 40 }),
});

describe("whatever happens in whatever order, a negotiation", () => {
  test("ends told once or failed once, in its time", () => {
    fc.assert(
      fc.property(anyHistory, ({ waitMs, inputs }) => {
        const run = new Run(waitMs);
        let endedBefore = false;
        for (const [elapsedMs, input] of inputs) {
          const commands = run.commands.length;
          run.at(run.now + elapsedMs, input);
          // Once it has ended, nothing but an allocation that came late is left to do.
          if (endedBefore) expect(run.commands.slice(commands).filter((made) => made !== "give-back")).toEqual([]);
          endedBefore = run.state.end !== undefined;
        }
        // Each deadline leads to the end or to a later deadline, never beyond the time for everything.
        for (let turns = 0; run.state.end === undefined; turns++) {
          expect(turns).toBeLessThan(5);
          const deadline = deadlineOf(run.state);
          expect(deadline).toBeLessThanOrEqual(waitMs + TIMES.answerMs);
          run.at(Math.max(deadline, run.now), { is: "time" });
        }
        expect(run.count("tell") + run.count("fail")).toBe(1);
        expect(deadlineOf(run.state)).toBe(Number.POSITIVE_INFINITY);
      }),
      { numRuns: 2000 },
    );
  });

  test("tells only what was accepted, with a place to meet, to a subscriber who is there", () => {
    fc.assert(
      fc.property(anyHistory, ({ waitMs, inputs }) => {
        const run = new Run(waitMs);
        for (const [elapsedMs, input] of inputs) {
          const before = run.state;
          const told = run.count("tell");
          run.at(run.now + elapsedMs, input);
          if (run.count("tell") === told) continue;
          expect(input.is === "accepted" || before.ask === "accepted").toBe(true);
          expect(["made", "unneeded"]).toContain(run.state.allocation);
          expect(before.subscriberIsHere || input.is === "subscriber-back").toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("uses an allocation or gives it back, exactly once", () => {
    fc.assert(
      fc.property(anyHistory, ({ waitMs, inputs }) => {
        const run = new Run(waitMs);
        let isAsked = false;
        let isMade = false;
        for (const [elapsedMs, input] of inputs) {
          // The IST answers an allocate, and that once.
          const isAnswer = input.is === "allocated" || input.is === "not-allocated";
          if (isAnswer && (!isAsked || isMade || run.state.allocation === "given-back")) continue;
          run.at(run.now + elapsedMs, input);
          isAsked = run.count("allocate") > 0;
          if (input.is === "allocated") isMade = true;
        }
        run.at(run.now + 1_000_000, { is: "time" });
        expect(run.count("allocate")).toBeLessThanOrEqual(1);
        const isUsed = run.state.end === "told" && run.state.allocation === "made";
        expect(run.count("give-back")).toBe(isMade && !isUsed ? 1 : 0);
      }),
      { numRuns: 2000 },
    );
  });

  test("takes the same thing twice like once", () => {
    fc.assert(
      fc.property(anyHistory, ({ waitMs, inputs }) => {
        const once = new Run(waitMs);
        const twice = new Run(waitMs);
        for (const [elapsedMs, input] of inputs) {
          once.at(once.now + elapsedMs, input);
          twice.at(once.now, input, input);
        }
        expect(twice.state).toEqual(once.state);
        expect(twice.commands).toEqual(once.commands);
      }),
      { numRuns: 2000 },
    );
  });
});

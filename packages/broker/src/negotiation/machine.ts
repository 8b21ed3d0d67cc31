import type { Code } from "@isthmus/protocol";

/**
 * How a service is negotiated, without any I/O: what happened goes in, what is to be done comes out.
 *
 *     waiting ---> asked ---> accepted  \
 *        ^          |  \                 +---> told
 *        +----------+   +---> allocated /
 *       (provider lost)
 *
 * From everywhere `failed`. The provider is asked and the allocation is made at the same time. Whatever comes twice, or
 * too late, changes nothing, except that an allocation that comes too late is given back.
 */
export interface Negotiation {
  readonly ask: "unsent" | "sent" | "accepted";
  readonly allocation: "unneeded" | "unasked" | "asked" | "made" | "given-back";
  readonly end: "told" | Code | undefined;
  /** Whether the subscriber's request waits for an answer on a session that is up. */
  readonly subscriberIsHere: boolean;
  /** Milliseconds, all on the caller's clock: until when a provider that was never asked is waited for, */
  readonly waitUntil: number;
  /** until when everything is to be done, */
  readonly endBy: number;
  /** until when the newest question is to be answered, */
  readonly answerBy: number;
  /** and until when a subscriber that was lost is to be back. */
  readonly subscriberBackBy: number;
}

export type NegotiationInput =
  /** The provider is logged in. `allocation`: the two need an IST to meet. */
  | { is: "provider-present"; allocation: boolean }
  /** The question is lost with the provider's session, which may be back in a moment, */
  | { is: "provider-lost" }
  /** or not. */
  | { is: "provider-gone" }
  | { is: "accepted" }
  | { is: "refused"; code: Code }
  | { is: "allocated" }
  | { is: "not-allocated"; code: Code }
  | { is: "subscriber-lost" }
  /** It sent its request again. */
  | { is: "subscriber-back" }
  /** The service is gone, or not this subscriber's to use any more, or the request was taken back. */
  | { is: "withdrawn"; code: Code }
  | { is: "time" };

export type NegotiationCommand =
  | { do: "ask" }
  | { do: "allocate" }
  | { do: "tell" }
  | { do: "fail"; code: Code }
  /** The allocation that was made is not used by this negotiation. */
  | { do: "give-back" };

export interface NegotiationTimes {
  /** The provider's daemon must answer, and the IST too, in this time. */
  answerMs: number;
  /** A subscriber whose session broke may come back in this time and finds its negotiation going on. */
  subscriberMs: number;
}

export interface Step {
  state: Negotiation;
  commands: NegotiationCommand[];
}

/** @param waitMs how long an absent provider is waited for */
export function begin(waitMs: number, times: NegotiationTimes, now: number): Negotiation {
  return {
    ask: "unsent",
    allocation: "unasked",
    end: undefined,
    subscriberIsHere: true,
    waitUntil: now + waitMs,
    endBy: now + waitMs + times.answerMs,
    answerBy: Number.POSITIVE_INFINITY,
    subscriberBackBy: Number.POSITIVE_INFINITY,
  };
}

export type Phase = "waiting" | "asked" | "accepted" | "allocated" | "told" | "failed";

export function phaseOf({ ask, allocation, end }: Negotiation): Phase {
  if (end !== undefined) return end === "told" ? "told" : "failed";
  if (ask === "accepted") return "accepted";
  if (allocation === "made") return "allocated";
  return ask === "sent" ? "asked" : "waiting";
}

/** When `time` is due next; never once it has ended. */
export function deadlineOf(state: Negotiation): number {
  if (state.end !== undefined) return Number.POSITIVE_INFINITY;
  return Math.min(providerDeadline(state), state.subscriberBackBy);
}

/** A provider that was asked and lost may come back until all is to be done. */
function providerDeadline(state: Negotiation): number {
  if (state.ask !== "unsent") return state.answerBy;
  return state.answerBy === Number.POSITIVE_INFINITY ? state.waitUntil : state.endBy;
}

export function step(state: Negotiation, input: NegotiationInput, times: NegotiationTimes, now: number): Step {
  if (state.end !== undefined) return afterEnd(state, input);
  switch (input.is) {
    case "provider-present":
      return ask(state, input.allocation, times, now);
    case "provider-lost":
      return state.ask === "sent" ? unchanged({ ...state, ask: "unsent" }) : unchanged(state);
    case "provider-gone":
      if (state.ask === "accepted") return unchanged(state);
      return atTime({ ...state, ask: "unsent", answerBy: Number.POSITIVE_INFINITY }, now);
    case "accepted":
      return state.ask === "sent" ? complete({ ...state, ask: "accepted" }) : unchanged(state);
    case "refused":
      return state.ask === "sent" ? fail(state, input.code) : unchanged(state);
    case "allocated":
      return state.allocation === "asked" ? complete({ ...state, allocation: "made" }) : unchanged(state);
    case "not-allocated":
      return state.allocation === "asked" ? fail({ ...state, allocation: "given-back" }, input.code) : unchanged(state);
    case "subscriber-lost":
      if (!state.subscriberIsHere) return unchanged(state);
      return unchanged({ ...state, subscriberIsHere: false, subscriberBackBy: now + times.subscriberMs });
    case "subscriber-back":
      return complete({ ...state, subscriberIsHere: true, subscriberBackBy: Number.POSITIVE_INFINITY });
    case "withdrawn":
      return fail(state, input.code);
    case "time":
      return atTime(state, now);
  }
}

function unchanged(state: Negotiation): Step {
  return { state, commands: [] };
}

function ask(state: Negotiation, needsAllocation: boolean, times: NegotiationTimes, now: number): Step {
  if (state.ask !== "unsent") return unchanged(state);
  const isOpen = state.allocation === "unasked" || state.allocation === "unneeded";
  const allocates = isOpen && needsAllocation;
  return {
    state: {
      ...state,
      ask: "sent",
      // Where both ends can meet directly now, an allocation that was made before is simply handed over too.
      allocation: allocates ? "asked" : isOpen ? "unneeded" : state.allocation,
      answerBy: Math.min(now + times.answerMs, state.endBy),
    },
    commands: allocates ? [{ do: "ask" }, { do: "allocate" }] : [{ do: "ask" }],
  };
}

function complete(state: Negotiation): Step {
  const canMeet = state.allocation === "unneeded" || state.allocation === "made";
  if (state.ask !== "accepted" || !canMeet || !state.subscriberIsHere) return unchanged(state);
  return { state: { ...state, end: "told" }, commands: [{ do: "tell" }] };
}

function fail(state: Negotiation, code: Code): Step {
  const commands: NegotiationCommand[] = [{ do: "fail", code }];
  const wasMade = state.allocation === "made";
  if (wasMade) commands.push({ do: "give-back" });
  return { state: { ...state, end: code, allocation: wasMade ? "given-back" : state.allocation }, commands };
}

function afterEnd(state: Negotiation, input: NegotiationInput): Step {
  if (input.is !== "allocated" || state.allocation !== "asked") return unchanged(state);
  return { state: { ...state, allocation: "given-back" }, commands: [{ do: "give-back" }] };
}

function atTime(state: Negotiation, now: number): Step {
  if (now >= state.subscriberBackBy) return fail(state, "disconnected");
  if (now < providerDeadline(state)) return unchanged(state);
  return fail(state, state.ask === "unsent" ? "provider-away" : "timeout");
}

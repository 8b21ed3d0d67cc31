import type { Code, Rendezvous } from "@isthmus/protocol";
import { OPEN_DEADLINE_MS } from "./opener.ts";
import type { LegOutcome } from "./stream.ts";

/** The opener gives up first; this is for an opener that vanished. */
const ANSWER_DEADLINE_MS = OPEN_DEADLINE_MS + 2000;

export type AnswererCommand =
  /** Dial this side's leg (or take the one that carried the open). */
  | { do: "dial"; attempt: number; rendezvous: Rendezvous }
  | { do: "drop"; attempt: number; rendezvous: Rendezvous; outcome: Exclude<LegOutcome, "joined">; later?: true }
  | { do: "join"; attempt: number; rendezvous: Rendezvous }
  | { do: "refuse"; attempt: number; code: Code }
  /** Close the connection to the service and forget the open; nothing was or will be delivered. */
  | { do: "end"; code: Code };

/**
 * One open as the other daemon sees it, who dials its service and its leg at the same time. Pure, like
 * {@link import("./opener.ts").Opener}. It never starts an attempt by itself.
 */
export class Answerer {
  readonly #timeoutMs: number;
  readonly #deadline: number;
  #phase: "waiting" | "dialling" | "joined" | "ended" = "waiting";
  #attempt = -1;
  #rendezvous: Rendezvous | undefined;
  #attemptEnds = 0;

  /** @param timeoutMs how long a leg may wait for the opener's preface */
  constructor(now: number, timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
    this.#deadline = now + ANSWER_DEADLINE_MS;
  }

  get phase(): "waiting" | "dialling" | "joined" | "ended" {
    return this.#phase;
  }

  get attempt(): number {
    return this.#attempt;
  }

  get wakeAt(): number | undefined {
    if (this.#phase === "joined" || this.#phase === "ended") return undefined;
    return this.#phase === "dialling" ? Math.min(this.#attemptEnds, this.#deadline) : this.#deadline;
  }

  /** An `open` of this id: the first, a copy, or a further attempt that replaces an unjoined one. */
  open(attempt: number, rendezvous: Rendezvous, now: number): AnswererCommand[] {
    if (this.#phase === "ended" || attempt < this.#attempt) return [];
    if (this.#phase === "joined") {
      return attempt === this.#attempt ? [] : [{ do: "refuse", attempt, code: "already-joined" }];
    }
    if (attempt === this.#attempt) return [];
    const commands: AnswererCommand[] = [];
    if (this.#phase === "dialling") commands.push(this.#drop("failed"));
    this.#attempt = attempt;
    this.#rendezvous = rendezvous;
    this.#phase = "dialling";
    this.#attemptEnds = now + this.#timeoutMs;
    commands.push({ do: "dial", attempt, rendezvous });
    return commands;
  }

  prefaceValid(attempt: number): AnswererCommand[] {
    if (this.#phase !== "dialling" || attempt !== this.#attempt) return [];
    this.#phase = "joined";
    return [{ do: "join", attempt, rendezvous: this.#rendezvous! }];
  }

  /** The leg failed, ended or carried somebody else's bytes: the opener will try again, or not. */
  legLost(attempt: number): AnswererCommand[] {
    if (this.#phase !== "dialling" || attempt !== this.#attempt) return [];
    this.#phase = "waiting";
    return [this.#drop("failed")];
  }

  /** This side cannot meet there: said at once, so that the opener need not wait for its time-out. */
  cannotMeet(attempt: number, code: Code): AnswererCommand[] {
    if (this.#phase !== "dialling" || attempt !== this.#attempt) return [];
    this.#phase = "waiting";
    return [this.#drop("failed"), { do: "refuse", attempt, code }];
  }

  /** The service refused, or was lost before the legs met. */
  serviceLost(code: Code): AnswererCommand[] {
    if (this.#phase === "joined" || this.#phase === "ended") return [];
    const commands: AnswererCommand[] = [{ do: "refuse", attempt: Math.max(0, this.#attempt), code }];
    // The refusal says it better than a reset, which would be there first: so the leg goes a little later.
    if (this.#phase === "dialling") commands.push({ ...this.#drop("given-up"), later: true });
    return [...commands, ...this.#end(code)];
  }

  cancel(attempt: number): AnswererCommand[] {
    // Joined: the opener saw no preface, but bytes of it may be delivered here; its leg's reset says the rest.
    if (this.#phase === "joined" || this.#phase === "ended" || attempt < this.#attempt) return [];
    return [...(this.#phase === "dialling" ? [this.#drop("given-up")] : []), ...this.#end("cancelled")];
  }

  tick(now: number): AnswererCommand[] {
    if (this.wakeAt === undefined || now < this.wakeAt) return [];
    if (now >= this.#deadline) {
      return [...(this.#phase === "dialling" ? [this.#drop("given-up")] : []), ...this.#end("open-timeout")];
    }
    this.#phase = "waiting";
    return [this.#drop("failed")];
  }

  #drop(outcome: Exclude<LegOutcome, "joined">): Extract<AnswererCommand, { do: "drop" }> {
    return { do: "drop", attempt: this.#attempt, rendezvous: this.#rendezvous!, outcome };
  }

  #end(code: Code): AnswererCommand[] {
    this.#phase = "ended";
    return [{ do: "end", code }];
  }
}

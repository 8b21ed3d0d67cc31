import type { Code, Rendezvous } from "@isthmus/protocol";
import type { LegOutcome } from "./stream.ts";

/** An open that is not joined after this time has failed: programs give a connection up after some such time. */
export const OPEN_DEADLINE_MS = 10_000;
/** Attempts are numbered by one byte. */
const MOST_ATTEMPTS = 255;
/** From the third attempt on there is a pause, so that a path that fails at once is not dialled in a tight loop. */
const RETRY_PAUSE_MS = 250;

/** What two slow hosts may need for each of many opens at once. */
const EACH_OPEN_MS = 5;

/**
 * How long one attempt may take until the peer's preface is there: three round trips, within reason: one lost SYN must
 * heal (1 s, RFC 6298), and a bad path must be left while there is time for others. An attempt that is given up too early
 * may have been joined by the peer already, and then the application is reset: so where many are under way, each has to
 * wait for the others.
 * @param others opens under way that are not joined
 * @param usualMs by when attempts that succeed are joined as a rule
 */
export function attemptTimeoutMs(rttMs: number | undefined, others: number, usualMs = 0): number {
  const alone = Math.min(3000, Math.max(1000, 3 * (rttMs ?? 0), usualMs));
  return Math.min(5000, alone + EACH_OPEN_MS * others);
}

export type OpenerCommand =
  /** Send `open` over control, unless the leg itself carries it. */
  | { do: "announce"; attempt: number; rendezvous: Rendezvous }
  /** Dial this side's leg (or wait for the peer's, where the peer is the dialler). */
  | { do: "dial"; attempt: number; rendezvous: Rendezvous }
  /** Reset the leg of an attempt that is given up. */
  | { do: "drop"; attempt: number; rendezvous: Rendezvous; outcome: Exclude<LegOutcome, "joined"> }
  /** Tell the peer that nothing more comes of this open. */
  | { do: "cancel"; attempt: number }
  /** The leg of this attempt is the peer's: the application's bytes are on it. */
  | { do: "join"; attempt: number; rendezvous: Rendezvous }
  /** Reset the application's connection. */
  | { do: "fail"; code: Code };

/**
 * One open as its opener sees it. Pure: events and the time go in, commands come out. It ends `joined` or `failed`
 * within {@link OPEN_DEADLINE_MS}, once.
 */
export class Opener {
  readonly #choose: (attempt: number) => Rendezvous | undefined;
  readonly #timeoutMs: number;
  readonly #deadline: number;
  #phase: "waiting" | "dialling" | "joined" | "failed" = "waiting";
  #attempt = -1;
  #rendezvous: Rendezvous | undefined;
  #nextAt: number;
  #lastCode: Code = "no-path";

  /**
   * @param choose where to meet in an attempt; nothing when no path is up, then {@link retry} is awaited
   * @param timeoutMs see {@link attemptTimeoutMs}
   */
  constructor(now: number, timeoutMs: number, choose: (attempt: number) => Rendezvous | undefined) {
    this.#choose = choose;
    this.#timeoutMs = timeoutMs;
    this.#deadline = now + OPEN_DEADLINE_MS;
    this.#nextAt = now;
  }

  get phase(): "waiting" | "dialling" | "joined" | "failed" {
    return this.#phase;
  }

  get attempt(): number {
    return this.#attempt;
  }

  /** When {@link tick} wants to be called next; nothing when the open has ended. */
  get wakeAt(): number | undefined {
    if (this.#phase === "joined" || this.#phase === "failed") return undefined;
    return Math.min(this.#nextAt, this.#deadline);
  }

  /** To be called at the start, at {@link wakeAt}, and when a path has come up. */
  tick(now: number): OpenerCommand[] {
    if (this.wakeAt === undefined) return [];
    if (now >= this.#deadline) {
      return this.#fail(this.#attempt < 0 ? "no-path" : this.#lastCode === "no-path" ? "open-timeout" : this.#lastCode);
    }
    if (now < this.#nextAt) return [];
    if (this.#phase === "dialling") return this.#giveUpAttempt(now, "open-timeout");
    return this.#tryNext(now);
  }

  /** A path came up: an open that waits for one goes on at once. */
  retry(now: number): OpenerCommand[] {
    if (this.#phase !== "waiting") return [];
    this.#nextAt = Math.min(this.#nextAt, now);
    return this.tick(now);
  }

  /** The leg could not be dialled, or ended before the peer's preface. */
  legLost(attempt: number, now: number, code: Code = "leg-lost"): OpenerCommand[] {
    if (this.#phase !== "dialling" || attempt !== this.#attempt) return [];
    return this.#giveUpAttempt(now, code);
  }

  /** What came on the leg is no valid preface of the peer for this open and attempt. */
  prefaceBad(attempt: number, now: number): OpenerCommand[] {
    return this.legLost(attempt, now, "bad-preface");
  }

  prefaceValid(attempt: number): OpenerCommand[] {
    if (this.#phase !== "dialling" || attempt !== this.#attempt) return [];
    this.#phase = "joined";
    return [{ do: "join", attempt, rendezvous: this.#rendezvous! }];
  }

  /**
   * The peer refused. A code about the way to meet leads to another attempt, any other ends the open: above all
   * `already-joined`, which says that the peer has delivered bytes of an earlier attempt, so that no byte may be sent
   * again.
   */
  refused(attempt: number, code: Code, now: number): OpenerCommand[] {
    if (this.#phase === "joined" || this.#phase === "failed") return [];
    const aboutMeeting = code === "unsupported-rendezvous" || code === "unknown-allocation" || code === "no-path";
    if (aboutMeeting) return this.legLost(attempt, now, code);
    return this.#fail(code, { tellPeer: false });
  }

  /** The application is gone, or may not go on: nobody waits for the leg. */
  abandon(code: Code = "application-reset"): OpenerCommand[] {
    if (this.#phase === "joined" || this.#phase === "failed") return [];
    return this.#fail(code);
  }

  #tryNext(now: number): OpenerCommand[] {
    const attempt = this.#attempt + 1;
    if (attempt > MOST_ATTEMPTS) return this.#fail(this.#lastCode);
    const rendezvous = this.#choose(attempt);
    if (!rendezvous) {
      this.#phase = "waiting";
      this.#nextAt = this.#deadline;
      return [];
    }
    this.#attempt = attempt;
    this.#rendezvous = rendezvous;
    this.#phase = "dialling";
    this.#nextAt = now + this.#timeoutMs;
    return [
      { do: "announce", attempt, rendezvous },
      { do: "dial", attempt, rendezvous },
    ];
  }

  #giveUpAttempt(now: number, code: Code): OpenerCommand[] {
    this.#lastCode = code;
    this.#phase = "waiting";
    const drop = this.#drop("failed");
    this.#nextAt = now + (this.#attempt < 1 ? 0 : RETRY_PAUSE_MS);
    if (this.#nextAt > now) return [drop];
    return [drop, ...this.#tryNext(now)];
  }

  #fail(code: Code, { tellPeer = true } = {}): OpenerCommand[] {
    const wasDialling = this.#phase === "dialling";
    this.#phase = "failed";
    const commands: OpenerCommand[] = [];
    if (wasDialling) commands.push(this.#drop("given-up"));
    if (tellPeer && this.#attempt >= 0) commands.push({ do: "cancel", attempt: this.#attempt });
    commands.push({ do: "fail", code });
    return commands;
  }

  #drop(outcome: Exclude<LegOutcome, "joined">): OpenerCommand {
    return { do: "drop", attempt: this.#attempt, rendezvous: this.#rendezvous!, outcome };
  }
}

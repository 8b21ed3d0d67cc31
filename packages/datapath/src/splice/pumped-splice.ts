import { type Pump, type PumpAccount, type PumpEnd, type PumpJoin, pumpLegOf } from "@isthmus/native/pump";
import { type Code, canonicalIp, type HostPort } from "@isthmus/protocol";
import type { SpliceDump } from "../data-path.ts";
import type { SpliceAccount, SpliceMember } from "./splice-account.ts";
import type { SpliceTally } from "./tally.ts";
import type { Leg } from "./waiting-leg.ts";

const CODES: Record<PumpEnd, Code> = {
  finished: "finished",
  "reset-by-0": "reset",
  "reset-by-1": "reset",
  "byte-limit": "byte-limit",
  told: "reset",
  // Of sealed ones alone; whatever a relay splices is clear to it.
  "bad-record": "reset",
};

/** Two TCP legs that the pump has joined: bytes pass without JavaScript, FIN and reset as with any splice. */
export class PumpedSplice implements SpliceMember {
  readonly ownIdleMs = 0;
  readonly since = performance.now();
  readonly #id: number;
  readonly #cell: number | undefined;
  readonly #sources: readonly [HostPort, HostPort];
  readonly #account: SpliceAccount;
  readonly #tally: SpliceTally;
  readonly #onClosed: (code: Code) => void;
  readonly #join: PumpJoin;
  #ended = false;

  private constructor(
    options: {
      id: number;
      cell: number | undefined;
      account: SpliceAccount;
      tally: SpliceTally;
      sources: readonly [HostPort, HostPort];
      onClosed: (code: Code) => void;
    },
    join: (onEnded: (end: PumpEnd) => void) => PumpJoin,
  ) {
    this.#id = options.id;
    this.#cell = options.cell;
    this.#account = options.account;
    this.#tally = options.tally;
    this.#sources = options.sources;
    this.#onClosed = options.onClosed;
    this.#join = join((end) => this.#settle(CODES[end]));
    this.#account.enter(this);
    this.#tally.enter(this);
  }

  /**
   * Hands two legs over to the pump.
   * @returns nothing where that cannot be: both legs are as they were
   */
  static start(options: {
    pump: Pump;
    pumpAccount: PumpAccount;
    id: number;
    cell: number | undefined;
    account: SpliceAccount;
    tally: SpliceTally;
    legs: readonly [Leg, Leg];
    onClosed: (code: Code) => void;
  }): PumpedSplice | undefined {
    const { pump, pumpAccount, legs, account } = options;
    const handed = legs.map(({ socket, early }) => pumpLegOf(socket, early));
    const [a, b] = handed;
    // What was read is in the buffers now, whoever goes on with them.
    legs.forEach((leg, side) => {
      leg.early = handed[side]?.early ?? leg.early;
    });
    if (!a || !b) return undefined;
    const most = account.limits.bytes;
    if (most > 0 && a.early.length + b.early.length > most) return undefined;
    const sources = legs.map(({ socket }) => ({
      host: canonicalIp(socket.remoteAddress ?? ""),
      port: socket.remotePort ?? 0,
    })) as [HostPort, HostPort];
    try {
      const splice = new PumpedSplice({ ...options, sources }, (onEnded) => pump.join(pumpAccount, [a, b], onEnded));
      // Node's descriptors only: the connections go on under the pump's.
      for (const { socket } of legs) socket.destroy();
      return splice;
    } catch (error) {
      // No descriptor is left, or no memory: without the pump it may go on.
      if ((error as NodeJS.ErrnoException).code === undefined) throw error;
      return undefined;
    }
  }

  get lastActive(): number {
    return this.#join.lastActive;
  }

  /** Both ways together. */
  get bytes(): number {
    const [a, b] = this.#join.bytes;
    return a + b;
  }

  dump(now: number): SpliceDump {
    return {
      splice: this.#id,
      ...(this.#cell === undefined ? {} : { cell: this.#cell }),
      proto: "tcp",
      sources: this.#sources,
      bytes: this.#join.bytes,
      ageMs: now - this.since,
      idleMs: now - this.lastActive,
    };
  }

  end(code: Code): void {
    if (this.#ended) return;
    this.#join.end();
    this.#settle(code);
  }

  #settle(code: Code): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#account.leave(this);
    this.#tally.leave(this);
    this.#tally.countClosed(code);
    this.#onClosed(code);
  }
}

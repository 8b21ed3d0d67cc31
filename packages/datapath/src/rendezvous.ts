import type { Code } from "@isthmus/protocol";

/** A leg as the pure part knows it: a number that its driver gave it. */
export type LegId = number;

export type RendezvousCommand =
  | { do: "pair"; legs: [LegId, LegId] }
  /** Reset a leg that waits no longer. */
  | { do: "end"; leg: LegId; code: Code };

interface Waiting {
  leg: LegId;
  since: number;
}

/**
 * One cell: two ports where the legs of one open meet. At most one unpaired leg per side, so that a leg that died without
 * a sign shifts no later pair; a newer one takes the place of an older one; a pair leaves the cell, which is free again at
 * once. Pure.
 */
export class CellRendezvous {
  readonly #halfMs: number;
  readonly #waiting: [Waiting | undefined, Waiting | undefined] = [undefined, undefined];

  /** @param halfMs how long an unpaired leg may wait */
  constructor(halfMs: number) {
    this.#halfMs = halfMs;
  }

  arrive(side: 0 | 1, leg: LegId, now: number): RendezvousCommand[] {
    const commands: RendezvousCommand[] = [];
    const older = this.#waiting[side];
    if (older) commands.push({ do: "end", leg: older.leg, code: "replaced" });
    const other = this.#waiting[side === 0 ? 1 : 0];
    if (!other) {
      this.#waiting[side] = { leg, since: now };
      return commands;
    }
    this.#waiting[0] = undefined;
    this.#waiting[1] = undefined;
    commands.push({ do: "pair", legs: side === 0 ? [leg, other.leg] : [other.leg, leg] });
    return commands;
  }

  /** The leg ended by itself. */
  gone(side: 0 | 1, leg: LegId): void {
    if (this.#waiting[side]?.leg === leg) this.#waiting[side] = undefined;
  }

  expire(now: number): RendezvousCommand[] {
    const commands: RendezvousCommand[] = [];
    for (const side of [0, 1] as const) {
      const waiting = this.#waiting[side];
      if (!waiting || now - waiting.since < this.#halfMs) continue;
      this.#waiting[side] = undefined;
      commands.push({ do: "end", leg: waiting.leg, code: "no-peer-leg" });
    }
    return commands;
  }

  /** When {@link expire} has something to do; nothing when nobody waits. */
  get wakeAt(): number | undefined {
    const times = this.#waiting.filter((waiting) => waiting !== undefined).map(({ since }) => since + this.#halfMs);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** Whether a side has an unpaired leg. */
  waits(side: 0 | 1): boolean {
    return this.#waiting[side] !== undefined;
  }

  /** The cell is closed: whoever waits is ended. */
  close(code: Code): RendezvousCommand[] {
    const commands = this.#waiting.flatMap((waiting) =>
      waiting ? [{ do: "end" as const, leg: waiting.leg, code }] : [],
    );
    this.#waiting[0] = undefined;
    this.#waiting[1] = undefined;
    return commands;
  }
}

/** An unpaired leg at the stream endpoint ends after this, as long as any open may take. */
export const STREAM_HALF_MS = 10_000;

/**
 * The stream endpoint: legs say who they are, so opposite sides with the same key (allocation, generation, open id,
 * attempt) pair exactly. Pure.
 */
export class StreamRendezvous {
  readonly #waiting = new Map<string, Waiting & { side: 0 | 1 }>();
  readonly #halfMs: number;

  constructor(halfMs: number = STREAM_HALF_MS) {
    this.#halfMs = halfMs;
  }

  arrive(key: string, side: 0 | 1, leg: LegId, now: number): RendezvousCommand[] {
    const waiting = this.#waiting.get(key);
    if (!waiting) {
      this.#waiting.set(key, { leg, side, since: now });
      return [];
    }
    this.#waiting.delete(key);
    if (waiting.side === side) {
      this.#waiting.set(key, { leg, side, since: now });
      return [{ do: "end", leg: waiting.leg, code: "replaced" }];
    }
    return [{ do: "pair", legs: side === 0 ? [leg, waiting.leg] : [waiting.leg, leg] }];
  }

  gone(key: string, leg: LegId): void {
    if (this.#waiting.get(key)?.leg === leg) this.#waiting.delete(key);
  }

  expire(now: number): RendezvousCommand[] {
    const commands: RendezvousCommand[] = [];
    // Insertion order is order of arrival, so the first that is young ends the search.
    for (const [key, { leg, since }] of this.#waiting) {
      if (now - since < this.#halfMs) break;
      this.#waiting.delete(key);
      commands.push({ do: "end", leg, code: "no-peer-leg" });
    }
    return commands;
  }

  get size(): number {
    return this.#waiting.size;
  }
}

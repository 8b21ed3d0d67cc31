import { type Code, IsthmusError, type Side } from "@isthmus/protocol";

export interface TableSettings {
  /** An allocation that both sides have not joined this long after it was made is freed: `not-joined`. */
  joinMs: number;
  /** A joined allocation is freed when a side is away this long (`silent`); a restored one, when it is not joined. */
  goneMs: number;
  /** Allocations at once. */
  most: number;
}

export type TableCommand =
  /** The allocation is over. */
  | { do: "free"; allocation: string; code: Code }
  /** Tell this side whether its peer is there. */
  | { do: "tell"; allocation: string; side: Side; joined: boolean };

interface Entry {
  readonly id: string;
  readonly broker: string;
  readonly sides: readonly [string, string];
  /** Until when both sides must have joined once. */
  readonly joinBy: number;
  readonly joined: [boolean, boolean];
  readonly everJoined: [boolean, boolean];
  readonly awaySince: [number, number];
}

/**
 * Which allocations live, for whom and until when. Pure: what happens and the time come in, what is to be done goes out.
 *
 * An allocation belongs to the broker that asked for it, since brokers of different operators must not get hold of each
 * other's tickets.
 */
export class AllocationTable {
  readonly #settings: TableSettings;
  readonly #entries = new Map<string, Entry>();
  readonly #byPair = new Map<string, Entry>();
  readonly #byKey = new Map<string, Set<Entry>>();

  constructor(settings: TableSettings) {
    this.#settings = settings;
  }

  /**
   * The living allocation of the pair, or a new one.
   * @param newId taken if a new one is made
   * @throws IsthmusError `ist-full`
   */
  ask(broker: string, sides: readonly [string, string], newId: string, now: number): { id: string; isNew: boolean } {
    const living = this.#byPair.get(pairKey(broker, sides));
    if (living) return { id: living.id, isNew: false };
    if (this.room === 0) throw new IsthmusError("ist-full");
    this.#add(newId, broker, sides, now, now + this.#settings.joinMs);
    return { id: newId, isNew: true };
  }

  /** An allocation out of an earlier life of this process: its sides have to join again. */
  restore(id: string, broker: string, sides: readonly [string, string], now: number): void {
    this.#add(id, broker, sides, now, now + this.#settings.goneMs);
  }

  /** A side's session has joined; joining again changes nothing. */
  join(id: string, side: Side): TableCommand[] {
    const entry = this.#entries.get(id);
    if (!entry || entry.joined[side]) return [];
    entry.joined[side] = true;
    entry.everJoined[side] = true;
    const other = side === 0 ? 1 : 0;
    return entry.joined[other] ? [{ do: "tell", allocation: id, side: other, joined: true }] : [];
  }

  /** A side has left, or its session is lost. */
  leave(id: string, side: Side, now: number): TableCommand[] {
    const entry = this.#entries.get(id);
    if (!entry?.joined[side]) return [];
    entry.joined[side] = false;
    entry.awaySince[side] = now;
    const other = side === 0 ? 1 : 0;
    return entry.joined[other] ? [{ do: "tell", allocation: id, side: other, joined: false }] : [];
  }

  release(id: string, code: Code): TableCommand[] {
    const entry = this.#entries.get(id);
    if (!entry) return [];
    this.#remove(entry);
    return [{ do: "free", allocation: id, code }];
  }

  /** To be called every now and then: frees what nobody has joined or comes back to. */
  expire(now: number): TableCommand[] {
    const commands: TableCommand[] = [];
    for (const entry of [...this.#entries.values()]) {
      if (now < this.#endOf(entry)) continue;
      commands.push(...this.release(entry.id, isComplete(entry) ? "silent" : "not-joined"));
    }
    return commands;
  }

  has(id: string): boolean {
    return this.#entries.has(id);
  }

  hasJoined(id: string, side: Side): boolean {
    return this.#entries.get(id)?.joined[side] ?? false;
  }

  /** Whether the side ever joined, in this life of the process. */
  hasEverJoined(id: string, side: Side): boolean {
    return this.#entries.get(id)?.everJoined[side] ?? false;
  }

  /** Whether the device is a side of any allocation. */
  concerns(key: string): boolean {
    return this.#byKey.has(key);
  }

  /** The allocations of one broker. */
  *of(broker: string): Generator<{ allocation: string; sides: [string, string] }> {
    for (const { id, broker: owner, sides } of this.#entries.values()) {
      if (owner === broker) yield { allocation: id, sides: [...sides] };
    }
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Further allocations that can be taken. */
  get room(): number {
    return Math.max(0, this.#settings.most - this.#entries.size);
  }

  #add(id: string, broker: string, sides: readonly [string, string], now: number, joinBy: number): void {
    const entry: Entry = {
      id,
      broker,
      sides,
      joinBy,
      joined: [false, false],
      everJoined: [false, false],
      awaySince: [now, now],
    };
    this.#entries.set(id, entry);
    this.#byPair.set(pairKey(broker, sides), entry);
    for (const key of sides) {
      const entries = this.#byKey.get(key) ?? new Set();
      entries.add(entry);
      this.#byKey.set(key, entries);
    }
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry.id);
    this.#byPair.delete(pairKey(entry.broker, entry.sides));
    for (const key of entry.sides) {
      const entries = this.#byKey.get(key)!;
      entries.delete(entry);
      if (entries.size === 0) this.#byKey.delete(key);
    }
  }

  /** When the entry is freed if nothing happens. */
  #endOf(entry: Entry): number {
    if (!isComplete(entry)) return entry.joinBy;
    const ends = entry.awaySince.filter((_, side) => !entry.joined[side]).map((since) => since + this.#settings.goneMs);
    return Math.min(...ends);
  }
}

/** Both sides have joined, if not at the same time. */
function isComplete({ everJoined: [a, b] }: Entry): boolean {
  return a && b;
}

function pairKey(broker: string, sides: readonly [string, string]): string {
  return `${broker} ${sides[0]} ${sides[1]}`;
}

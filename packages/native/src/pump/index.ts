import { loaded } from "../addon.ts";
import { type Suite, suiteIndex } from "../aead/suite.ts";
import { ENGINE_THREADS, SlotCounters, type ThreadedEngine } from "../threaded-engine.ts";

export { pumpLegOf, resetUnlessFinished } from "./hand-over.ts";

/** In the order of `enum pump_end` (c/pump-engine.h). */
const ENDS = ["finished", "reset-by-0", "reset-by-1", "byte-limit", "told", "bad-record"] as const;
/**
 * Why a join is over: both sides had said so by FIN (a sealed one by its sealed end), or one ended otherwise, or had to;
 * both were reset then.
 */
export type PumpEnd = (typeof ENDS)[number];

/** In the shape of `struct pump_counters`, and as many as `PUMP_BLOCK`. */
const COUNTERS = { words: 4, lastMs: 2, perBlock: 4096 } as const;

/** The C half (c/pump.c). */
export interface PumpEngine extends ThreadedEngine {
  start(threads: number, onEnded: (slotsAndEnds: number[]) => void): void;
  createAccount(): object;
  setAccount(account: object, bytesPerSecond: number, mostBytes: number): void;
  spend(account: object, bytes: number, urgent: boolean): boolean;
  waitMs(account: object): number;
  join(account: object, fd0: number, early0: Buffer, fd1: number, early1: Buffer): number;
  joinSealed(
    account: object,
    fd0: number,
    early0: Buffer,
    fd1: number,
    early1: Buffer,
    suite: number,
    recordsPerKey: number,
    sendSecret: Buffer,
    sentRecords: number,
    receiveSecret: Buffer,
    receivedRecords: number,
  ): number;
  end(slot: number): void;
  setResetOnClose(fd: number, resets: boolean): void;
  resetAll(): void;
}

/** A connected TCP socket that does not block. What was read from it already goes first. */
export interface PumpLeg {
  /** Stays the caller's: the pump takes a duplicate. */
  fd: number;
  early: Buffer;
}

/** One direction of a sealed leg. */
export interface RecordDirection {
  /** 32 bytes, from which key and iv come. */
  secret: Buffer;
  /** Under the present key so far. */
  records: number;
}

/** Where the records of a sealed leg stand behind its prefaces, for whoever goes on with them. */
export interface LegRecords {
  suite: Suite;
  /** This side updates its key when it has sealed so many or more. */
  recordsPerKey: number;
  send: RecordDirection;
  receive: RecordDirection;
}

/** What several joins share. */
export class PumpAccount {
  readonly #engine: PumpEngine;
  readonly handle: object;

  constructor(engine: PumpEngine) {
    this.#engine = engine;
    this.handle = engine.createAccount();
  }

  /**
   * @param bytesPerSecond of all joins together; 0: no limit
   * @param mostBytes of each join, both ways together; 0: no limit
   */
  set(bytesPerSecond: number, mostBytes: number): void {
    this.#engine.setAccount(this.handle, bytesPerSecond, mostBytes);
  }

  /** Pays for what others than the pump pass. @param urgent takes up to a burst ahead. @returns whether it may pass */
  spend(bytes: number, urgent: boolean): boolean {
    return this.#engine.spend(this.handle, bytes, urgent);
  }

  /** Milliseconds until there is credit. */
  waitMs(): number {
    return this.#engine.waitMs(this.handle);
  }
}

/** Two sockets that the pump has joined. */
export class PumpJoin {
  readonly #pump: Pump;
  readonly #slot: number;
  readonly #counters: Float64Array;
  /** Counters when it was over: the slot is another join's then. */
  #last: { bytes: readonly [number, number]; lastActive: number } | undefined;

  constructor(pump: Pump, slot: number) {
    this.#pump = pump;
    this.#slot = slot;
    this.#counters = pump.counters.of(slot);
  }

  /** Read from side 0 and from side 1 so far. */
  get bytes(): readonly [number, number] {
    return this.#last?.bytes ?? [this.#counters[0]!, this.#counters[1]!];
  }

  /** When something moved last, as `performance.now()` tells the time. */
  get lastActive(): number {
    return this.#last?.lastActive ?? this.#counters[COUNTERS.lastMs]! + this.#pump.counters.clockOffset;
  }

  /** Resets both sockets; `onEnded` is told `told`, unless the join was over before. */
  end(): void {
    if (!this.#last) this.#pump.engine.end(this.#slot);
  }

  /** For the pump alone. */
  settle(): void {
    const { bytes, lastActive } = this;
    this.#last = { bytes, lastActive };
  }
}

/** Moves bytes between pairs of sockets in threads of its own, without JavaScript. One for a process. */
export class Pump {
  readonly engine: PumpEngine;
  readonly counters: SlotCounters;
  readonly #joins = new Map<number, { join: PumpJoin; onEnded: (end: PumpEnd) => void }>();

  constructor(engine: PumpEngine) {
    this.engine = engine;
    this.counters = new SlotCounters(engine, COUNTERS);
    engine.start(ENGINE_THREADS, (slotsAndEnds) => this.#ended(slotsAndEnds));
  }

  createAccount(): PumpAccount {
    return new PumpAccount(this.engine);
  }

  /**
   * Joins two sockets. From here on the end of the process resets them, however it comes.
   * @param onEnded called once
   * @param records the second one carries sealed records, its early bytes too; those of the first one are in clear
   * @throws Error with a system's code (EMFILE, ENOMEM); nothing was changed then
   */
  join(
    account: PumpAccount,
    legs: readonly [PumpLeg, PumpLeg],
    onEnded: (end: PumpEnd) => void,
    records?: LegRecords,
  ): PumpJoin {
    this.counters.reserve();
    const slot = this.#join(account, legs, records);
    const join = new PumpJoin(this, slot);
    this.#joins.set(slot, { join, onEnded });
    return join;
  }

  #join({ handle }: PumpAccount, [a, b]: readonly [PumpLeg, PumpLeg], records: LegRecords | undefined): number {
    if (!records) return this.engine.join(handle, a.fd, a.early, b.fd, b.early);
    const { suite, recordsPerKey, send, receive } = records;
    return this.engine.joinSealed(
      handle,
      a.fd,
      a.early,
      b.fd,
      b.early,
      suiteIndex(suite),
      recordsPerKey,
      send.secret,
      send.records,
      receive.secret,
      receive.records,
    );
  }

  /** Resets all joins before it returns: for a process that is about to end. */
  resetAll(): void {
    this.engine.resetAll();
  }

  #ended(slotsAndEnds: number[]): void {
    // All counters first: what is called may join anew and be given one of these slots.
    const ended: (() => void)[] = [];
    for (let at = 0; at < slotsAndEnds.length; at += 2) {
      const slot = slotsAndEnds[at]!;
      const { join, onEnded } = this.#joins.get(slot)!;
      const end = ENDS[slotsAndEnds[at + 1]!]!;
      this.#joins.delete(slot);
      join.settle();
      ended.push(() => onEnded(end));
    }
    for (const tell of ended) tell();
  }
}

let shared: Pump | undefined;

/** The pump of this process, started when it is first asked for; none where the add-on is not loaded. */
export function thePump(): Pump | undefined {
  if (!("addon" in loaded)) return undefined;
  shared ??= new Pump(loaded.addon.pump);
  return shared;
}

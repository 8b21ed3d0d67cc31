import { loaded } from "../addon.ts";
import type { PumpAccount } from "../pump/index.ts";
import { ENGINE_THREADS, SlotCounters, type ThreadedEngine } from "../threaded-engine.ts";

/** In the order of `enum datagram_drop` (c/datagram-relay.h). */
const DROPS = ["stranger", "early", "foreign", "splice-limit", "rate", "unsendable"] as const;
/** Why a datagram was not sent on. */
export type DatagramDrop = (typeof DROPS)[number];

/** In the order of `enum datagram_event`. */
const EVENTS = ["half", "meeting", "byte-limit"] as const;

/** In the shape of `struct datagram_counters`, and as many as `DATAGRAM_BLOCK`. */
const COUNTERS = { words: 16, lastMs: 2, heardMs: 3, dropped: 4, segmented: 11, perBlock: 1024 } as const;

type News = [slot: number, event: number, side: number, host: string, port: number];

/** The C half (c/datagrams.c). */
export interface DatagramEngine extends ThreadedEngine {
  start(threads: number, onNews: () => void): void;
  bind(address: string, port: number, ipv6Only: boolean, bufferBytes: number): number;
  close(fd: number): void;
  add(
    account: object,
    fds0: readonly number[],
    sources0: readonly string[],
    fds1: readonly number[],
    sources1: readonly string[],
  ): number;
  expect(slot: number, side: number, sources: readonly string[]): void;
  answer(slot: number, mayMeet: boolean): void;
  forget(slot: number): void;
  remove(slot: number): void;
  takeNews(): News | undefined;
}

export interface DatagramEvent {
  /**
   * `half`: a source has taken a side of an empty cell. `meeting`: there would be one on both sides; the cell waits for
   * {@link DatagramCell.answer}. `byte-limit`: the account's bytes were used up; the cell is empty again.
   */
  readonly event: (typeof EVENTS)[number];
  readonly side: 0 | 1;
  /** Who came; of no meaning with `byte-limit`. */
  readonly source: { readonly host: string; readonly port: number };
}

/** A bound UDP socket that no cell has yet. */
export class DatagramSocket {
  readonly #engine: DatagramEngine;
  #fd: number | undefined;

  constructor(engine: DatagramEngine, fd: number) {
    this.#engine = engine;
    this.#fd = fd;
  }

  get fd(): number {
    if (this.#fd === undefined) throw new Error("the socket is a cell's, or closed");
    return this.#fd;
  }

  /** The port is free when this returns, unless a cell has it. */
  close(): void {
    if (this.#fd !== undefined) this.#engine.close(this.#fd);
    this.#fd = undefined;
  }

  /** For the relay alone: a cell has it. */
  handOver(): void {
    this.#fd = undefined;
  }
}

/** One side of a cell that is to be made. */
export interface DatagramSide {
  sockets: readonly DatagramSocket[];
  /** Who may become its source, as of {@link DatagramCell.expect}. */
  sources: readonly string[];
}

/** Sockets of two sides; datagrams between the first source of each. */
export class DatagramCell {
  readonly #relay: DatagramRelay;
  readonly #slot: number;
  #counters: Float64Array;
  #isRemoved = false;

  constructor(relay: DatagramRelay, slot: number) {
    this.#relay = relay;
    this.#slot = slot;
    this.#counters = relay.counters.of(slot);
  }

  /** Sent on from side 0 and from side 1 since their sources met. */
  get bytes(): readonly [number, number] {
    return [this.#counters[0]!, this.#counters[1]!];
  }

  /** When something was sent on last, as `performance.now()` tells the time. */
  get lastActive(): number {
    return this.#counters[COUNTERS.lastMs]! + this.#relay.counters.clockOffset;
  }

  /** When the source of a side alone was heard last. */
  get lastHeard(): number {
    return this.#counters[COUNTERS.heardMs]! + this.#relay.counters.clockOffset;
  }

  /** Datagrams that were not sent on, since the cell was made. */
  get dropped(): Readonly<Record<DatagramDrop, number>> {
    const counts = DROPS.map((reason, n) => [reason, this.#counters[COUNTERS.dropped + n]!]);
    return Object.fromEntries(counts) as Record<DatagramDrop, number>;
  }

  /** Datagrams that went several at once (UDP_SEGMENT). */
  get segmented(): number {
    return this.#counters[COUNTERS.segmented]!;
  }

  /**
   * Who may become a side's source.
   * @param sources IPv4 addresses, and IPv6 addresses that stand for their /64
   */
  expect(side: 0 | 1, sources: readonly string[]): void {
    if (!this.#isRemoved) this.#relay.engine.expect(this.#slot, side, sources);
  }

  /** Whether the sources of a `meeting` may meet: datagrams pass from here on; otherwise the second is none. */
  answer(mayMeet: boolean): void {
    if (!this.#isRemoved) this.#relay.engine.answer(this.#slot, mayMeet);
  }

  /** Nothing passes any more; the next datagrams are those of new sources. */
  forget(): void {
    if (!this.#isRemoved) this.#relay.engine.forget(this.#slot);
  }

  /** Closes the sockets: their ports are free when this returns. Counters stay. */
  remove(): void {
    if (this.#isRemoved) return;
    this.#isRemoved = true;
    this.#relay.remove(this.#slot);
    this.#counters = this.#counters.slice();
  }
}

/** Moves datagrams between UDP sockets in threads of its own, without JavaScript. One for a process. */
export class DatagramRelay {
  readonly engine: DatagramEngine;
  readonly counters: SlotCounters;
  readonly #cells = new Map<number, (event: DatagramEvent) => void>();

  constructor(engine: DatagramEngine) {
    this.engine = engine;
    this.counters = new SlotCounters(engine, COUNTERS);
    engine.start(ENGINE_THREADS, () => this.#tell());
  }

  /**
   * @param address a literal
   * @param bufferBytes room for datagrams each way, as far as the system allows
   * @throws Error with the system's code (EADDRINUSE, EMFILE)
   */
  bind(address: string, port: number, ipv6Only: boolean, bufferBytes: number): DatagramSocket {
    return new DatagramSocket(this.engine, this.engine.bind(address, port, ipv6Only, bufferBytes));
  }

  /**
   * Makes a cell. The sockets are its own from here on.
   * @param onEvent is not called any more when the cell was removed, nor with what came before a `forget`
   * @throws Error of a source that is no address, or with the system's code (ENOMEM, ENOSPC); the sockets stay the caller's
   * then
   */
  add(
    account: PumpAccount,
    [a, b]: readonly [DatagramSide, DatagramSide],
    onEvent: (event: DatagramEvent) => void,
  ): DatagramCell {
    this.counters.reserve();
    const slot = this.engine.add(account.handle, fdsOf(a), a.sources, fdsOf(b), b.sources);
    for (const socket of [...a.sockets, ...b.sockets]) socket.handOver();
    this.#cells.set(slot, onEvent);
    return new DatagramCell(this, slot);
  }

  /** For cells alone. */
  remove(slot: number): void {
    this.engine.remove(slot);
    this.#cells.delete(slot);
  }

  #tell(): void {
    // One by one: whoever is called may remove cells, and their news with them.
    for (let news = this.engine.takeNews(); news; news = this.engine.takeNews()) {
      const [slot, event, side, host, port] = news;
      this.#cells.get(slot)?.({ event: EVENTS[event]!, side: side as 0 | 1, source: { host, port } });
    }
  }
}

function fdsOf({ sockets }: DatagramSide): number[] {
  return sockets.map(({ fd }) => fd);
}

let shared: DatagramRelay | undefined;

/** The relay of this process, started when it is first asked for; none where the add-on is not loaded. */
export function theDatagramRelay(): DatagramRelay | undefined {
  if (!("addon" in loaded)) return undefined;
  shared ??= new DatagramRelay(loaded.addon.datagrams);
  return shared;
}

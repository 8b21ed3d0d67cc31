import { isIP } from "node:net";
import { type DatagramRelay, theDatagramRelay } from "@isthmus/native/datagrams";
import { type Code, IsthmusError } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import type {
  AllocationDump,
  AllocationSpec,
  AllocationUpdate,
  Capabilities,
  CellPorts,
  DataPath,
  DataPathStats,
  OpenOptions,
} from "../data-path.ts";
import { PortPool } from "../port-pool.ts";
import { ephemeralOverlap } from "../port-range.ts";
import { SocketSplicer } from "../splice/socket-splicer.ts";
import { SpliceTally } from "../splice/tally.ts";
import { DropCounts } from "./drop-counts.ts";
import { type Shared, UserspaceAllocation } from "./userspace-allocation.ts";
import { checkAddress, wildcards } from "./wildcards.ts";

/** A complaint that each new connection may cause is logged at most this often. */
const WARN_EVERY_MS = 60_000;

export interface UserspaceOptions {
  logger: Logger;
  /** Shared with whoever else splices sockets of the same allocations; by default one of its own. */
  splicer?: SocketSplicer;
  /** Moves datagrams, where the splicer has a pump; by default this process's, if it has one. */
  datagrams?: DatagramRelay;
  /** Local addresses of the cells; by default all of both families. */
  bind?: readonly string[];
}

/** A data path out of ordinary sockets: it runs everywhere and needs no privilege. */
export class UserspaceDataPath implements DataPath {
  readonly #options: UserspaceOptions;
  readonly #allocations = new Map<string, UserspaceAllocation>();
  #shared: Shared | undefined;
  #warnedAt = Number.NEGATIVE_INFINITY;

  constructor(options: UserspaceOptions) {
    this.#options = options;
  }

  async open({ ports, udpIdleMs, onEvent }: OpenOptions): Promise<Capabilities> {
    const { logger, splicer = new SocketSplicer(), datagrams = theDatagramRelay(), bind = [] } = this.#options;
    for (const address of bind) await checkAddress(address);
    const overlap = ephemeralOverlap(ports);
    if (overlap !== undefined) logger.warn({}, overlap);
    const addresses = bind.length > 0 ? bind : await wildcards();
    this.#shared = {
      splicer,
      tally: new SpliceTally(),
      drops: new DropCounts(),
      pool: new PortPool(ports),
      bind: addresses,
      udpIdleMs,
      datagrams,
      halves: 0,
      emit: onEvent,
      onSocketError: (error) => this.#warn(error),
    };
    return {
      name: "userspace",
      silentDrop: false,
      survivesRestart: false,
      pure: false,
      fanout: false,
      udp: true,
      ipv6: addresses.some((address) => isIP(address) === 6),
    };
  }

  async allocate({ allocation, cells, sources, limits }: AllocationSpec): Promise<CellPorts[]> {
    if (this.#allocations.has(allocation)) throw new IsthmusError("conflict", `allocation ${allocation} exists`);
    const shared = this.#opened();
    const isShared = shared.splicer.account(allocation) !== undefined;
    const made = new UserspaceAllocation(allocation, limits, shared);
    made.setSources(sources);
    this.#allocations.set(allocation, made);
    try {
      return await made.setCells(cells);
    } catch (error) {
      this.#allocations.delete(allocation);
      if (!isShared) made.release("ist-full");
      throw error;
    }
  }

  async update(allocation: string, { sources, cells, limits }: AllocationUpdate): Promise<CellPorts[]> {
    const known = this.#allocations.get(allocation);
    if (!known) throw new IsthmusError("unknown-allocation");
    if (cells) await known.setCells(cells);
    if (sources) known.setSources(sources);
    if (limits) known.setLimits(limits);
    return known.cells;
  }

  async release(allocation: string, code: Code): Promise<void> {
    const known = this.#allocations.get(allocation);
    this.#allocations.delete(allocation);
    known?.release(code);
  }

  async learn(): Promise<void> {
    throw new IsthmusError("unknown-allocation", "there are no pure cells in user space");
  }

  async dump(): Promise<AllocationDump[]> {
    return Array.from(this.#allocations.values(), (allocation) => allocation.dump());
  }

  get problem(): string | undefined {
    return undefined;
  }

  async stats(): Promise<DataPathStats> {
    const { tally, drops, halves } = this.#opened();
    let cells = 0;
    for (const allocation of this.#allocations.values()) cells += allocation.size;
    return {
      cells,
      halves,
      splices: tally.splices,
      udpSplices: tally.udpSplices,
      pureSplices: 0,
      bytes: tally.bytes,
      closed: { ...tally.closed },
      dropped: drops.byReason,
    };
  }

  async close(): Promise<void> {
    for (const allocation of this.#allocations.values()) allocation.release("shutting-down");
    this.#allocations.clear();
  }

  #opened(): Shared {
    if (!this.#shared) throw new Error("the data path is not open");
    return this.#shared;
  }

  #warn(error: Error): void {
    const now = performance.now();
    if (now - this.#warnedAt < WARN_EVERY_MS) return;
    this.#warnedAt = now;
    this.#options.logger.warn({ err: error }, "a cell's socket failed");
  }
}

import type { DatagramRelay } from "@isthmus/native/datagrams";
import { type AllocationLimits, type Code, IsthmusError, type Side, sourcePrefix } from "@isthmus/protocol";
import type { AllocationDump, CellPorts, CellSpec, DataPathEvent, ExpectedSources } from "../data-path.ts";
import type { PortPool } from "../port-pool.ts";
import type { SocketSplicer } from "../splice/socket-splicer.ts";
import type { SpliceAccount } from "../splice/splice-account.ts";
import type { SpliceTally } from "../splice/tally.ts";
import { Cell } from "./cell.ts";
import type { CellHost } from "./cell-host.ts";
import type { DropCounts } from "./drop-counts.ts";
import { closePort, openPort, type PortSockets } from "./port-sockets.ts";

/** What the allocations of one data path share. */
export interface Shared {
  readonly splicer: SocketSplicer;
  readonly tally: SpliceTally;
  readonly drops: DropCounts;
  readonly pool: PortPool;
  readonly bind: readonly string[];
  readonly udpIdleMs: number;
  readonly datagrams: DatagramRelay | undefined;
  halves: number;
  emit(event: DataPathEvent): void;
  onSocketError(error: Error): void;
}

/** One allocation in user space: its cells and who may join them. */
export class UserspaceAllocation implements CellHost {
  readonly allocation: string;
  readonly account: SpliceAccount;
  readonly splicer: SocketSplicer;
  readonly tally: SpliceTally;
  readonly drops: DropCounts;
  readonly udpIdleMs: number;
  readonly datagrams: DatagramRelay | undefined;
  readonly emit: (event: DataPathEvent) => void;
  readonly #shared: Shared;
  readonly #cells = new Map<number, Cell>();
  #sources: readonly [ReadonlySet<string>, ReadonlySet<string>] = [new Set(), new Set()];

  constructor(allocation: string, limits: AllocationLimits, shared: Shared) {
    this.allocation = allocation;
    this.account = shared.splicer.open(allocation, limits);
    this.splicer = shared.splicer;
    this.tally = shared.tally;
    this.drops = shared.drops;
    this.udpIdleMs = shared.udpIdleMs;
    // It pays from the account that the pump has.
    this.datagrams = this.account.pumpAccount && shared.datagrams;
    this.emit = shared.emit;
    this.#shared = shared;
  }

  expects(side: Side, address: string): boolean {
    return this.#sources[side].has(sourcePrefix(address));
  }

  countHalves(change: 1 | -1): void {
    this.#shared.halves += change;
  }

  /** Cells. */
  get size(): number {
    return this.#cells.size;
  }

  get cells(): CellPorts[] {
    return Array.from(this.#cells.values(), ({ ports }) => ports).sort((a, b) => a.cell - b.cell);
  }

  get sources(): readonly [ReadonlySet<string>, ReadonlySet<string>] {
    return this.#sources;
  }

  setSources([a, b]: ExpectedSources): void {
    this.#sources = [new Set(a), new Set(b)];
    for (const cell of this.#cells.values()) cell.expectAnew();
  }

  setLimits(limits: AllocationLimits): void {
    this.account.limits = limits;
    for (const cell of this.#cells.values()) cell.setHalfMs(limits.halfMs);
  }

  /** Opens the cells that are missing, all or none, then closes those that are not named. */
  async setCells(specs: readonly CellSpec[]): Promise<CellPorts[]> {
    if (specs.some(({ pure }) => pure)) {
      throw new IsthmusError("unsupported-rendezvous", "sockets in user space cannot keep the ports of others");
    }
    if (specs.some(({ fanout }) => fanout)) {
      throw new IsthmusError("unsupported-rendezvous", "there is no fan-out in user space");
    }
    const opened: Cell[] = [];
    try {
      for (const spec of specs) if (!this.#cells.has(spec.cell)) opened.push(await this.#open(spec));
    } catch (error) {
      for (const cell of opened) this.#close(cell, "released");
      throw error;
    }
    for (const cell of opened) this.#cells.set(cell.number, cell);
    const wanted = new Set(specs.map(({ cell }) => cell));
    for (const cell of [...this.#cells.values()]) {
      if (wanted.has(cell.number)) continue;
      this.#cells.delete(cell.number);
      this.#close(cell, "released");
    }
    return this.cells;
  }

  release(code: Code): void {
    for (const cell of this.#cells.values()) this.#close(cell, code);
    this.#cells.clear();
    this.splicer.close(this.allocation, code);
  }

  dump(): AllocationDump {
    return { allocation: this.allocation, cells: this.cells, splices: this.account.dump() };
  }

  async #open({ cell, ports }: CellSpec): Promise<Cell> {
    const first = await this.#take(ports?.[0]);
    let second: PortSockets | undefined;
    try {
      second = await this.#take(ports?.[1]);
      return new Cell(this, cell, [first, second], this.#shared.onSocketError);
    } catch (error) {
      if (second) this.#give(second);
      this.#give(first);
      throw error;
    }
  }

  #close(cell: Cell, code: Code): void {
    cell.close(code);
    for (const port of cell.ports.ports) this.#shared.pool.give(port);
  }

  #take(wanted: number | undefined): Promise<PortSockets> {
    return this.#shared.pool.take(wanted, (port) => openPort(this.#shared.bind, port, this.datagrams));
  }

  #give(sockets: PortSockets): void {
    closePort(sockets);
    this.#shared.pool.give(sockets.port);
  }
}

import { randomBytes } from "node:crypto";
import type { CellSpec, DataPath, DataPathEvent, SocketSplicer } from "@isthmus/datapath";
import {
  type AllocationLimits,
  type Cell,
  type Code,
  IsthmusError,
  type Side,
  toIsthmusError,
} from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import { TokenBuckets } from "@isthmus/session";
import { type Store, scanAll, update } from "@isthmus/store";
import { isOwnAddress } from "../addresses.ts";
import type { DaemonSession } from "../daemons/daemon-session.ts";
import { Allocation, otherSide } from "./allocation.ts";
import { AllocationTable, type TableCommand, type TableSettings } from "./allocation-table.ts";
import { cellsToAdd, cellsToKeep, REST_CELLS } from "./cell-plan.ts";
import { LearnedPorts } from "./learned-ports.ts";
import { learnedFor, type Offered, withPureCells } from "./pure-cells.ts";
import { type AllocationRecord, allocationRecord, RECORD_PREFIX, recordKey } from "./record.ts";

/** How often the table is asked what has come to its end, at most. */
const SWEEP_MS = 1000;
/** Ports of one allocation that are learned; whoever floods a cell with SYNs must not keep this process busy. */
const LEARNED = { perSecond: 1000, burst: 1000 };

export interface AllocationsOptions {
  settings: TableSettings;
  /** How long a daemon may take to confirm new cells. */
  cellsAnswerMs: number;
  dataPath: DataPath;
  /** Allocations may have pure cells, where a side keeps its ports. */
  pure: boolean;
  splicer: SocketSplicer;
  store: Store;
  logger: Logger;
  /** An allocation is over: its legs are to be ended, and its broker told unless that was its own word. */
  onFreed: (allocation: Allocation, code: Code, byBroker: boolean) => void;
  /** Their number has changed. */
  onChange: () => void;
  /** A leg waits at a pure cell, and its peer cannot go there. */
  countRefused: (code: Code) => void;
}

/** The allocations of a relay: carries out what the table decides, on data path, store and sessions. */
export class Allocations {
  readonly #options: AllocationsOptions;
  readonly #table: AllocationTable;
  readonly #allocations = new Map<string, Allocation>();
  readonly #learnRate = new TokenBuckets(LEARNED);
  readonly #learnedPorts = new LearnedPorts();
  /** Cells at which a leg waits whose port its peer was told. */
  readonly #waiting = new Set<string>();
  /** Work that nobody waits for, until it is done. */
  readonly #cleanups = new Set<Promise<void>>();
  #sweeper: NodeJS.Timeout | undefined;
  #survivorTimer: NodeJS.Timeout | undefined;
  #draining = false;

  constructor(options: AllocationsOptions) {
    this.#options = options;
    this.#table = new AllocationTable(options.settings);
  }

  /** Reads back what an earlier life of this process promised, and opens its cells on the ports that they had. */
  async restore(): Promise<void> {
    const { store, dataPath, logger, settings } = this.#options;
    const survivors = new Set((await dataPath.dump()).map(({ allocation }) => allocation));
    for await (const { key, value, version } of scanAll(store, RECORD_PREFIX)) {
      const parsed = allocationRecord.safeParse(value);
      if (!parsed.success) {
        logger.warn({ key }, "an allocation on disk cannot be read and is dropped");
        await store.compareAndSet(key, version, undefined);
        continue;
      }
      const allocation = new Allocation(parsed.data);
      allocation.isInDataPath = survivors.delete(allocation.id);
      this.#table.restore(allocation.id, allocation.broker, allocation.sides, performance.now());
      this.#admit(allocation);
      await this.#reopen(allocation);
    }
    if (survivors.size > 0) this.#releaseLater(survivors, settings.goneMs);
    if (this.size > 0) logger.info({ allocations: this.size }, "allocations restored");
  }

  start(): void {
    const { joinMs, goneMs } = this.#options.settings;
    const everyMs = Math.min(SWEEP_MS, joinMs / 4, goneMs / 4);
    this.#sweeper = setInterval(() => this.#run(this.#table.expire(performance.now())), everyMs);
  }

  /** No new allocations and no new sides from now on; those that are there go on. */
  drain(): void {
    this.#draining = true;
    this.#options.onChange();
  }

  /** Ends what it runs by itself; allocations stay in the store. */
  async stop(): Promise<void> {
    clearInterval(this.#sweeper);
    clearTimeout(this.#survivorTimer);
    await Promise.all([...this.#cleanups, ...Array.from(this.#allocations.values(), settle)]);
  }

  get size(): number {
    return this.#table.size;
  }

  get room(): number {
    return this.#draining ? 0 : this.#table.room;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** What a broker's allocations are, for its ISB. */
  of(broker: string): { allocation: string; sides: [string, string] }[] {
    return [...this.#table.of(broker)];
  }

  ids(): string[] {
    return [...this.#allocations.keys()];
  }

  get(id: string): Allocation | undefined {
    return this.#allocations.get(id);
  }

  /** Whether the device may log in. */
  concerns(key: string): boolean {
    return this.#table.concerns(key);
  }

  /**
   * The living allocation of the pair, or a new one, once it is on disk.
   * @throws IsthmusError `ist-full`, `shutting-down`, `store-unavailable`
   */
  async allocate(
    broker: string,
    sides: readonly [string, string],
    limits: AllocationLimits,
  ): Promise<AllocationRecord> {
    if (this.#draining) throw new IsthmusError("shutting-down");
    const { id, isNew } = this.#table.ask(broker, sides, randomBytes(8).toString("hex"), performance.now());
    if (isNew) this.#make(id, broker, sides, limits);
    const allocation = this.#allocations.get(id)!;
    await allocation.written;
    return allocation.record;
  }

  /** A broker's word; nothing happens when it is unknown or another broker's. */
  release(broker: string, id: string, code: Code): void {
    if (this.#allocations.get(id)?.broker === broker) this.#run(this.#table.release(id, code), true);
  }

  /**
   * @param keepsPorts the side's legs can have a source port of its choice, and arrive here with it
   * @throws IsthmusError `unknown-allocation`, `bad-ticket`, `shutting-down`
   */
  async join(
    session: DaemonSession,
    id: string,
    ticket: string,
    keepsPorts: boolean,
  ): Promise<{ side: Side; cells: Cell[]; peerJoined: boolean; limits: AllocationLimits }> {
    const allocation = this.#known(id);
    const side = allocation.sideOf(session.key);
    if (side === undefined || !allocation.isTicket(side, ticket)) throw new IsthmusError("bad-ticket");
    if (this.#draining && !this.#table.hasEverJoined(id, side)) throw new IsthmusError("shutting-down");
    return this.#serial(allocation, async () => {
      allocation.sources[side].setSession(session.address);
      await this.#expectSources(allocation);
      if (session.context.isClosed) throw new IsthmusError("disconnected");
      allocation.sessions[side] = session;
      // A leg of this very host would be taken for its peer's, whose port it has.
      allocation.keepsPorts[side] = keepsPorts && !isOwnAddress(session.address);
      session.context.join(id);
      if (allocation.sessions[otherSide(side)]) await this.#arrangePureCells(allocation, otherSide(side));
      this.#run(this.#table.join(id, side));
      return {
        side,
        cells: allocation.cellsOf(side),
        peerJoined: this.#table.hasJoined(id, otherSide(side)),
        limits: allocation.limits,
      };
    });
  }

  async leave(session: DaemonSession, id: string): Promise<void> {
    const { allocation, side } = this.#joined(session, id);
    await this.#serial(allocation, async () => {
      if (allocation.sessions[side] !== session) return;
      this.#sessionLeft(allocation, side, session);
      allocation.sources[side].clear();
      if (allocation.isInDataPath) {
        await this.#options.dataPath.update(id, { sources: allocation.expectedSources });
      }
    });
  }

  /**
   * Adds cells for this side's opens; both sides know them when this resolves.
   * @throws IsthmusError `cell-limit`, `ist-full`, `not-joined`, `timeout` (the peer did not confirm)
   */
  async grow(session: DaemonSession, id: string, count: number, pure: boolean): Promise<Cell[]> {
    const { allocation, side } = this.#joined(session, id);
    return this.#serial(allocation, async () => {
      const before = allocation.cells;
      const kind = pure && this.#offered.learned ? learnedFor(side, allocation.keepsPorts) : undefined;
      const added = cellsToAdd(
        before.map(({ cell }) => cell),
        side,
        count,
      );
      await this.#setCells(allocation, [...before, ...added.map((cell) => ({ cell, pure: kind }))]);
      try {
        await this.#confirmCells(allocation, otherSide(side));
      } catch (error) {
        await this.#setCells(allocation, before);
        throw error;
      }
      await this.#persist(allocation);
      return allocation.cellsOf(side);
    });
  }

  /** @throws IsthmusError `bad-request`, `not-joined` */
  async shrink(session: DaemonSession, id: string, given: readonly number[]): Promise<void> {
    const { allocation, side } = this.#joined(session, id);
    await this.#serial(allocation, async () => {
      const numbers = (isPure: boolean): number[] =>
        allocation.cells.filter(({ pure }) => (pure !== undefined) === isPure).map(({ cell }) => cell);
      const kept = new Set([
        ...cellsToKeep(numbers(false), side, given),
        ...numbers(true).filter((cell) => !given.includes(cell)),
      ]);
      if (kept.size === allocation.cells.length) return;
      await this.#setCells(
        allocation,
        allocation.cells.filter(({ cell }) => kept.has(cell)),
      );
      await this.#persist(allocation);
      // The peer never starts anything at these cells, so nobody has to wait for its answer.
      this.#confirmCells(allocation, otherSide(side)).catch(() => undefined);
    });
  }

  /** What happens at cells, as far as ports are to be learned there. */
  dataPathEvent(event: DataPathEvent): void {
    if (event.event === "half") this.#half(event);
    else if (event.event === "paired") {
      if (this.#waiting.delete(cellKey(event))) this.#learnedPorts.met();
    } else if (event.event === "closed" && event.splice === undefined && this.#waiting.delete(cellKey(event))) {
      // A leg in whose place another one came, or that its own end gave up, says nothing.
      if (event.code !== "no-peer-leg" || !this.#learnedPorts.missed(event.allocation, performance.now())) return;
      this.#options.logger.warn(
        {},
        "connections do not reach ports outside the range of cells, as behind a firewall: no Pure Splices that learn for a while",
      );
    }
  }

  /**
   * A leg waits at a cell: where its source port is to be learned, the other side's daemon is told it, or that it cannot
   * go there.
   */
  #half({ allocation: id, cell, side, proto, source }: Extract<DataPathEvent, { event: "half" }>): void {
    const allocation = this.#allocations.get(id);
    const found = allocation?.cells.find((each) => each.cell === cell);
    if (!allocation || proto !== "tcp" || !found?.pure || found.pure.learns !== side) return;
    if (this.#learnRate.take(id, performance.now()) > 0) return;
    allocation.learning(async () => {
      const session = allocation.sessions[otherSide(side)];
      if (!session) return;
      try {
        await this.#options.dataPath.learn(id, cell, source.port);
        this.#waiting.add(cellKey({ allocation: id, cell }));
        session.event("half", { allocation: id, cell, port: source.port });
      } catch (error) {
        const { code, message } = toIsthmusError(error);
        this.#options.countRefused(code);
        this.#options.logger.debug({ allocation: id, cell, code }, `a port cannot be learned: ${message}`);
        session.event("half", { allocation: id, cell });
      }
    });
  }

  get #offered(): Offered {
    const { pure } = this.#options;
    return { agreed: pure, learned: pure && !this.#learnedPorts.isOff(performance.now()) };
  }

  /** A session is gone: what it had joined has lost a side, until the daemon comes back. */
  sessionClosed(session: DaemonSession): void {
    session.context.isClosed = true;
    for (const id of [...session.context.joined]) {
      const allocation = this.#allocations.get(id);
      const side = allocation?.sideOf(session.key);
      if (!allocation || side === undefined || allocation.sessions[side] !== session) continue;
      this.#sessionLeft(allocation, side, session);
    }
  }

  /** A connection from there showed the side's token: its legs may come from there, too. */
  async prove(allocation: Allocation, side: Side, address: string): Promise<void> {
    if (!allocation.sources[side].prove(address)) return;
    await this.#serial(allocation, async () => {
      if (!allocation.isInDataPath) return;
      await this.#options.dataPath.update(allocation.id, { sources: allocation.expectedSources });
    });
  }

  #make(id: string, broker: string, sides: readonly [string, string], limits: AllocationLimits): void {
    const share = () => ({
      ticket: randomBytes(16).toString("base64url"),
      token: randomBytes(32).toString("base64url"),
    });
    const shares: AllocationRecord["shares"] = [share(), share()];
    const made = new Allocation({ allocation: id, broker, sides: [...sides], limits, shares, cells: [] });
    this.#admit(made);
    made.written = made.serial(() => this.#write(made));
    made.written.catch((error: unknown) => {
      this.#options.logger.warn({ err: error, allocation: id }, "an allocation could not be written");
      this.#run(this.#table.release(id, "store-unavailable"));
    });
  }

  #admit(allocation: Allocation): void {
    this.#allocations.set(allocation.id, allocation);
    this.#options.splicer.open(allocation.id, allocation.limits);
    this.#options.onChange();
  }

  async #reopen(allocation: Allocation): Promise<void> {
    if (allocation.cells.length === 0) return;
    const before = JSON.stringify(allocation.cells);
    try {
      await this.#setCells(
        allocation,
        allocation.cells.filter(({ pure }) => !pure || this.#options.pure),
      );
    } catch (error) {
      this.#options.logger.warn({ err: error, allocation: allocation.id }, "its cells could not be opened again");
      allocation.cells = [];
    }
    if (JSON.stringify(allocation.cells) !== before) await this.#persist(allocation);
  }

  /** The data path knows where legs come from, and has the cells of an allocation at rest. */
  async #expectSources(allocation: Allocation): Promise<void> {
    const { dataPath, logger } = this.#options;
    if (allocation.isInDataPath) {
      await dataPath.update(allocation.id, { sources: allocation.expectedSources });
      return;
    }
    try {
      await this.#setCells(
        allocation,
        REST_CELLS.map((cell) => ({ cell })),
      );
      await this.#persist(allocation);
    } catch (error) {
      if (toIsthmusError(error).code !== "ist-full") throw error;
      // The stream endpoint still serves it.
      logger.warn({ allocation: allocation.id }, `an allocation has no cells: ${(error as Error).message}`);
    }
  }

  /**
   * Both sides are there: the pure cells are such that both can use them. The peer of who joins hears of them before it
   * hears that this side is there.
   */
  async #arrangePureCells(allocation: Allocation, peer: Side): Promise<void> {
    const { logger } = this.#options;
    const cells = withPureCells(allocation.cells, allocation.keepsPorts, this.#offered);
    if (JSON.stringify(cells) === JSON.stringify(allocation.cells)) return;
    try {
      await this.#setCells(allocation, cells);
    } catch (error) {
      logger.warn({ err: error, allocation: allocation.id }, "pure cells could not be made");
      return;
    }
    await this.#persist(allocation);
    this.#confirmCells(allocation, peer).catch(() => undefined);
  }

  async #setCells(allocation: Allocation, specs: readonly CellSpec[]): Promise<void> {
    const { dataPath } = this.#options;
    const { id, limits } = allocation;
    const cells = [...specs].sort((a, b) => a.cell - b.cell);
    const sources = allocation.expectedSources;
    allocation.cells = allocation.isInDataPath
      ? await dataPath.update(id, { cells, sources })
      : await dataPath.allocate({ allocation: id, cells, sources, limits });
    allocation.isInDataPath = true;
  }

  /** Tells a side its cells and waits until it has taken them; a side that is away learns them when it joins. */
  async #confirmCells(allocation: Allocation, side: Side): Promise<void> {
    const session = allocation.sessions[side];
    if (!session) return;
    const cells = allocation.cellsOf(side);
    const timeoutMs = this.#options.cellsAnswerMs;
    try {
      await session.request("cells", { allocation: allocation.id, cells }, { timeoutMs });
    } catch (error) {
      if (!session.context.isClosed && toIsthmusError(error).code !== "disconnected") throw error;
    }
  }

  /** Ports are kept for after a restart as well as can be; a store that fails must not keep anybody from joining. */
  async #persist(allocation: Allocation): Promise<void> {
    try {
      await this.#write(allocation);
    } catch (error) {
      const { id } = allocation;
      this.#options.logger.warn({ err: error, allocation: id }, "the cells of an allocation could not be written");
    }
  }

  async #write({ id, record }: Allocation): Promise<void> {
    await update(this.#options.store, recordKey(id), () => record);
  }

  /** @throws IsthmusError `unknown-allocation` when it was freed before its turn came */
  #serial<T>(allocation: Allocation, task: () => Promise<T>): Promise<T> {
    return allocation.serial(async () => {
      if (allocation.isFree) throw new IsthmusError("unknown-allocation");
      return task();
    });
  }

  #known(id: string): Allocation {
    const allocation = this.#allocations.get(id);
    if (!allocation) throw new IsthmusError("unknown-allocation");
    return allocation;
  }

  #joined(session: DaemonSession, id: string): { allocation: Allocation; side: Side } {
    const allocation = this.#known(id);
    const side = allocation.sideOf(session.key);
    if (side === undefined || allocation.sessions[side] !== session) throw new IsthmusError("not-joined");
    return { allocation, side };
  }

  #sessionLeft(allocation: Allocation, side: Side, session: DaemonSession): void {
    allocation.sessions[side] = undefined;
    session.context.leave(allocation.id);
    this.#run(this.#table.leave(allocation.id, side, performance.now()));
  }

  #run(commands: TableCommand[], byBroker = false): void {
    for (const command of commands) {
      const allocation = this.#allocations.get(command.allocation)!;
      if (command.do === "free") this.#free(allocation, command.code, byBroker);
      else allocation.sessions[command.side]?.event("peer", { allocation: allocation.id, joined: command.joined });
    }
  }

  #free(allocation: Allocation, code: Code, byBroker: boolean): void {
    const { id } = allocation;
    allocation.isFree = true;
    this.#allocations.delete(id);
    for (const session of allocation.sessions) {
      session?.context.leave(id);
      session?.event("released", { allocation: id, code });
    }
    this.#options.splicer.close(id, code);
    this.#options.onFreed(allocation, code, byBroker);
    this.#options.onChange();
    this.#cleanUp(allocation.serial(() => this.#forget(allocation, code)));
  }

  async #forget({ id }: Allocation, code: Code): Promise<void> {
    const { dataPath, store } = this.#options;
    await dataPath.release(id, code);
    await update(store, recordKey(id), () => undefined);
  }

  /** What a surviving data path still holds and no record explains. */
  #releaseLater(ids: Iterable<string>, waitMs: number): void {
    const { dataPath, logger } = this.#options;
    logger.warn({ allocations: [...ids] }, "the data path holds allocations that are not on disk; they end soon");
    this.#survivorTimer = setTimeout(() => {
      for (const id of ids) this.#cleanUp(dataPath.release(id, "released"));
    }, waitMs);
  }

  #cleanUp(work: Promise<void>): void {
    const done = work
      .catch((error: unknown) => this.#options.logger.warn({ err: error }, "an allocation could not be forgotten"))
      .finally(() => this.#cleanups.delete(done));
    this.#cleanups.add(done);
  }
}

function cellKey({ allocation, cell }: { allocation: string; cell: number }): string {
  return `${allocation} ${cell}`;
}

async function settle(allocation: Allocation): Promise<void> {
  await allocation.serial(async () => undefined);
}

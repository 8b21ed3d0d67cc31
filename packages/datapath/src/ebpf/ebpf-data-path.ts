import { existsSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { BpfError, bpfUnavailable, EEXIST, OTHER_MAPS, SpliceObject } from "@isthmus/native/bpf";
import type { IstReason } from "@isthmus/native/netlink";
import { type Code, IsthmusError, type Side } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import type {
  AllocationDump,
  AllocationSpec,
  AllocationUpdate,
  Capabilities,
  CellPorts,
  DataPath,
  DataPathEvent,
  DataPathStats,
  ExpectedSources,
  OpenOptions,
  SpliceDump,
} from "../data-path.ts";
import { HostLock } from "../host-lock.ts";
import { CellPool } from "../kernel/cell-pool.ts";
import { ipBytes } from "../kernel/ip-bytes.ts";
import { KernelCounters } from "../kernel/kernel-counters.ts";
import { Listeners } from "../kernel/listeners.ts";
import { SpliceEvents } from "../kernel/splice-events.ts";
import { allocationOf, kernelId, reasonOf, spliceDump } from "../kernel/translation.ts";
import { endOf, nextSynAck, TCP_TIMES, type TcpTimes } from "./ageing.ts";
import { now } from "./clock.ts";
import { Deadlines } from "./deadlines.ts";
import { FILTER_PRIORITY, type Interface, Interfaces, LOCK, LOOPBACK, ownProgram, type Route } from "./interfaces.ts";
import { type LiveSplice, LiveSplices } from "./live-splices.ts";
import { checkPrivileges } from "./privileges.ts";
import { Resets } from "./resets.ts";
import { type AllocationSettings, type HalfNews, SpliceMaps, type SpliceNews } from "./splice-maps.ts";
import type { StoredSplice } from "./stored-splice.ts";

/** How exactly time-outs are kept. */
const TICK_MS = 20;
/** Splices of which one turn of the loop takes care, when there are very many. */
const AT_ONCE = 1024;
/** Of which it resets the ends. */
const RESET_AT_ONCE = 256;
/** Interfaces whose filter somebody took off get it back after this. */
const LOOK_MS = 5000;
/** How soon it is noticed that there was no room for events. */
const LOST_MS = 500;

interface Known {
  readonly id: bigint;
  settings: AllocationSettings;
  sources: ExpectedSources;
  readonly cells: Map<number, CellPorts>;
}

interface HalfAt {
  readonly alloc: bigint;
  readonly cell: number;
  readonly proto: 0 | 1;
  readonly side: Side;
}

export interface EbpfOptions {
  logger: Logger;
  /** Local addresses of the cells; the programs take ports on all of them and can have none. */
  bind?: readonly string[];
  /** How many splices there may be at once, where none are taken over. @default 524,288 */
  mostSplices?: number;
  /** @default 0.3 s, a minute and a minute */
  tcpTimes?: Partial<TcpTimes>;
}

/**
 * The data path in BPF programs at the traffic control hook of every interface, on kernels as they come. Packets never
 * enter this process, and cells and splices go on when it ends: the filter of the loopback device holds their maps, in
 * which the next process finds them again. What a program cannot do is done here: it tells the time, and sends SYN-ACKs
 * again and RSTs.
 */
export class EbpfDataPath implements DataPath {
  readonly #options: EbpfOptions;
  readonly #tcpTimes: TcpTimes;
  /** What undoes the steps of `open`, in their order. */
  readonly #undo: (() => void)[] = [];
  readonly #allocations = new Map<string, Known>();
  readonly #live = new LiveSplices();
  readonly #halves = new Map<string, HalfAt>();
  /** Of splices by id, of halves by their key. */
  readonly #deadlines = new Deadlines<bigint | string>();
  readonly #events = new SpliceEvents();
  /** Ended here of late: events of theirs may still be unread. */
  #ended = new Set<bigint>();
  #endedBefore = new Set<bigint>();
  readonly #counters = new KernelCounters();
  readonly #listeners = new Listeners();
  /** Names of interfaces that were left to others, by their index. */
  readonly #foreign = new Map<number, string>();
  #pool!: CellPool;
  #object!: SpliceObject;
  #maps!: SpliceMaps;
  #resets!: Resets;
  #interfaces!: Interfaces;
  #udpIdleMs = 0;
  #lost = 0;
  #emit: (event: DataPathEvent) => void = () => undefined;
  #attaching: Promise<void> = Promise.resolve();
  #recalling: Promise<void> = Promise.resolve();
  #soon: NodeJS.Immediate | undefined;
  #isOpen = false;

  constructor(options: EbpfOptions) {
    this.#options = options;
    this.#tcpTimes = { ...TCP_TIMES, ...options.tcpTimes };
  }

  async open({ ports, udpIdleMs, onEvent }: OpenOptions): Promise<Capabilities> {
    const { logger, bind = [] } = this.#options;
    if (bind.length > 0)
      throw new Error("the programs take ports on all addresses, and data_path.addresses names some");
    if (bpfUnavailable !== undefined) throw new Error(bpfUnavailable);
    checkPrivileges();
    this.#udpIdleMs = Math.round(udpIdleMs);
    this.#emit = onEvent;
    this.#pool = await CellPool.of(ports);
    try {
      const lock = await HostLock.take(LOCK, "another IST uses the BPF data path");
      this.#undo.push(() => lock.release());
      this.#interfaces = new Interfaces(() => this.#follow());
      this.#undo.push(() => this.#interfaces.close());
      await this.#load();
      await this.#adopt();
    } catch (error) {
      this.#unwind();
      throw error;
    }
    this.#isOpen = true;
    this.#pool.reserve(logger);
    const ticks = setInterval(() => this.#tick(), TICK_MS);
    const looks = setInterval(() => this.#follow(), LOOK_MS);
    const losses = setInterval(() => this.#checkLost(), LOST_MS);
    for (const timer of [ticks, looks, losses]) {
      timer.unref();
      this.#undo.push(() => clearInterval(timer));
    }
    return {
      name: "ebpf",
      silentDrop: true,
      survivesRestart: true,
      pure: true,
      fanout: true,
      udp: true,
      ipv6: existsSync("/proc/net/if_inet6"),
    };
  }

  async allocate({ allocation, cells, sources, limits }: AllocationSpec): Promise<CellPorts[]> {
    if (this.#allocations.has(allocation)) throw new IsthmusError("conflict", `allocation ${allocation} exists`);
    const known: Known = {
      id: kernelId(allocation),
      settings: { ...limits, udpIdleMs: this.#udpIdleMs },
      sources: [[], []],
      cells: new Map(),
    };
    this.#allocations.set(allocation, known);
    try {
      await this.#pool.with(cells, isPortTaken, async (opened) => {
        const routes = await this.#routes(opened);
        this.#maps.setAllocation(known.id, known.settings);
        this.#setSources(known, sources);
        this.#addCells(known, opened, routes);
      });
    } catch (error) {
      this.#allocations.delete(allocation);
      this.#setSources(known, [[], []]);
      this.#maps.deleteAllocation(known.id);
      throw full(error);
    }
    return sorted(known);
  }

  async update(allocation: string, { sources, cells, limits }: AllocationUpdate): Promise<CellPorts[]> {
    const known = this.#allocations.get(allocation);
    if (!known) throw new IsthmusError("unknown-allocation");
    const added = cells?.filter(({ cell }) => !known.cells.has(cell)) ?? [];
    const removed = cells ? sorted(known).filter(({ cell }) => !cells.some((each) => each.cell === cell)) : [];
    try {
      await this.#pool.with(added, isPortTaken, async (opened) => {
        this.#addCells(known, opened, await this.#routes(opened));
      });
      if (sources) this.#setSources(known, sources);
      if (limits) this.#limit(known, { ...limits, udpIdleMs: this.#udpIdleMs });
    } catch (error) {
      throw full(error);
    }
    for (const cell of removed) this.#removeCell(known, cell, "released");
    return sorted(known);
  }

  async release(allocation: string, code: Code): Promise<void> {
    const known = this.#allocations.get(allocation);
    if (!known) return;
    const reason = reasonOf(code);
    this.#allocations.delete(allocation);
    for (const cell of sorted(known)) this.#removeCell(known, cell, reason);
    this.#setSources(known, [[], []]);
    // From here on nothing passes, and what meets at this moment ends when it is heard of.
    this.#maps.deleteAllocation(known.id);
    await this.#endAll(this.#live.take(known.id), reason);
  }

  async learn(allocation: string, cell: number, port: number): Promise<void> {
    const known = this.#allocations.get(allocation);
    const learning = known?.cells.get(cell);
    const learns = learning?.pure?.learns;
    if (!known || !learning || learns === undefined) throw new IsthmusError("unknown-allocation");
    // Such a port is nobody's here: packets of those who use it by right must not be taken away.
    if (await this.#listeners.holds(port)) throw new IsthmusError("conflict", `this host listens on port ${port}`);
    this.#maps.learn(known.id, learning, learns, port);
  }

  async dump(): Promise<AllocationDump[]> {
    const living = new Map<string, SpliceDump[]>();
    for (const some of this.#maps.splicesByTurns()) {
      for (const splice of some) {
        if (splice.isOver) continue;
        push(living, allocationOf(splice.alloc), spliceDump(splice));
      }
      await turn();
    }
    return Array.from(this.#allocations, ([allocation, known]) => ({
      allocation,
      cells: sorted(known),
      splices: living.get(allocation) ?? [],
    }));
  }

  get problem(): string | undefined {
    if (this.#foreign.size === 0) return undefined;
    return `another program filters the incoming packets of ${[...this.#foreign.values()].join(", ")}, and no leg can come there`;
  }

  async stats(): Promise<DataPathStats> {
    return { ...this.#counters.take(this.#maps.stats(this.#cellCount)), pureSplices: this.#events.pure };
  }

  async close(): Promise<void> {
    const wasOpen = this.#isOpen;
    this.#isOpen = false;
    await this.#attaching;
    await this.#recalling;
    await this.#resets?.end();
    if (wasOpen && this.#allocations.size === 0 && this.#maps.isEmpty) await this.#detach();
    this.#unwind();
    this.#allocations.clear();
    this.#live.clear();
    this.#halves.clear();
    this.#deadlines.clear();
    this.#ended.clear();
    this.#endedBefore.clear();
  }

  /** Nothing is left that could go on without this process: neither are the programs. */
  async #detach(): Promise<void> {
    try {
      for (const each of await this.#interfaces.list()) {
        const { programId } = await this.#filters(each);
        if (programId === this.#object.programId) await this.#interfaces.removeFilters(each, FILTER_PRIORITY);
      }
    } catch (error) {
      this.#options.logger.warn({ err: error }, "the programs of the BPF data path could not be taken off");
    }
  }

  get #cellCount(): number {
    let count = 0;
    for (const { cells } of this.#allocations.values()) count += cells.size;
    return count;
  }

  /** Loads the programs, over the maps of those that are attached, and attaches them. */
  async #load(): Promise<void> {
    const interfaces = await this.#interfaces.list();
    let before = 0;
    for (const each of interfaces) {
      const { foreign, programId } = await this.#filters(each);
      if (foreign) throw new Error(`another program filters the incoming packets of interface ${each.name} (tc)`);
      if (each.index === LOOPBACK.index || before === 0) before = programId ?? before;
    }
    this.#object = this.#loadOver(before);
    this.#undo.push(() => this.#object.close());
    const foreign = interfaces.find(({ index }) => this.#object.hasTcxFilters(index));
    if (foreign) throw new Error(`another program filters the incoming packets of interface ${foreign.name} (tcx)`);
    this.#maps = new SpliceMaps(this.#object);
    this.#resets = new Resets((some) => this.#maps.reset(some), RESET_AT_ONCE * this.#maps.endedBytes);
    this.#maps.setLocals(await this.#interfaces.addresses());
    for (const { index } of interfaces) this.#object.attach(index);
  }

  #loadOver(before: number): SpliceObject {
    const { mostSplices } = this.#options;
    if (before === 0) return new SpliceObject(0, mostSplices);
    try {
      return new SpliceObject(before);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== OTHER_MAPS) throw error;
      const object = new SpliceObject(0, mostSplices);
      this.#options.logger.error(
        { err: error },
        "splices of another version of the BPF data path cannot be taken over: they end",
      );
      return object;
    }
  }

  /** Takes over what an earlier life of this process has left. */
  async #adopt(): Promise<void> {
    const maps = this.#maps;
    for (const [id, settings] of maps.allocations()) {
      const cells = new Map<number, CellPorts>();
      this.#allocations.set(allocationOf(id), { id, settings, sources: maps.sources(id), cells });
    }
    for (const { alloc, cell } of maps.cells()) {
      const known = this.#allocations.get(allocationOf(alloc));
      known?.cells.set(cell.cell, cell);
      this.#pool.hold([cell]);
    }
    maps.recallLearned([...this.#allocations.values()].flatMap((known) => sorted(known)));
    await this.#recall();
    this.#lost = maps.lostEvents();
    this.#counters.start(maps.stats(this.#cellCount));
    this.#object.watch((events) => this.#read(events));
  }

  /** Learns what the maps hold, without events. Others are read meanwhile. */
  async #recall(): Promise<void> {
    const gone = this.#live.ids();
    for (const some of this.#maps.splicesByTurns()) {
      for (const splice of some) {
        const { id, alloc, isOver } = splice;
        gone.delete(id);
        this.#events.learn(splice);
        this.#live.set(id, { alloc, isOver, synAcks: this.#live.get(id)?.synAcks ?? 0 });
        this.#deadlines.set(id, splice.state === "syn-rcvd" ? now() : this.#endOf(splice).due);
      }
      await turn();
    }
    for (const id of gone) {
      this.#events.forget(id);
      this.#live.delete(id);
      this.#deadlines.delete(id);
    }
    for (const key of this.#halves.keys()) this.#deadlines.delete(key);
    this.#halves.clear();
    for (const half of this.#maps.halves()) this.#await(half, half.heard);
  }

  /** Interfaces, addresses or filters may be others. */
  #follow(): void {
    this.#attaching = this.#attaching
      .then(async () => {
        if (!this.#isOpen) return;
        this.#maps.setLocals(await this.#interfaces.addresses());
        const interfaces = await this.#interfaces.list();
        for (const index of this.#foreign.keys()) {
          if (!interfaces.some((each) => each.index === index)) this.#foreign.delete(index);
        }
        for (const each of interfaces) await this.#attach(each);
      })
      .catch((error: unknown) => {
        if (this.#isOpen)
          this.#options.logger.warn({ err: error }, "the interfaces of this host could not be followed");
      });
  }

  async #attach(each: Interface): Promise<void> {
    const { foreign, programId } = await this.#filters(each);
    if (!this.#isOpen) return;
    const { index, name } = each;
    if (programId === this.#object.programId) {
      this.#foreign.delete(index);
      return;
    }
    if (foreign || this.#object.hasTcxFilters(index)) {
      if (this.#foreign.has(index)) return;
      this.#foreign.set(index, name);
      this.#options.logger.warn(
        { name },
        "another program filters this interface's incoming packets: no leg can come by it",
      );
      return;
    }
    this.#foreign.delete(index);
    this.#object.attach(index);
    this.#options.logger.info({ name }, "the BPF data path takes packets of this interface");
  }

  async #filters(each: Interface): Promise<{ foreign: boolean; programId?: number | undefined }> {
    const filters = await this.#interfaces.filters(each);
    return {
      foreign: filters.some(({ priority }) => priority !== FILTER_PRIORITY),
      programId: ownProgram(filters),
    };
  }

  #read(events: Buffer): void {
    for (const news of this.#maps.news(events)) {
      if ("half" in news) this.#hearHalf(news);
      else if ("splice" in news) this.#hearSplice(news);
      else this.#maps.tellSender(news);
    }
  }

  #hearHalf({ half }: HalfNews): void {
    const { alloc, cell, side, reason, proto } = half;
    const at: HalfAt = { alloc, cell, side, proto: proto === IPPROTO_TCP ? 0 : 1 };
    if (reason === undefined) this.#await(at, now());
    else if (reason !== "replaced") this.#forgetHalf(at);
    this.#emit(this.#events.half(half));
  }

  #hearSplice({ splice, unanswered, isDead }: SpliceNews): void {
    const { id, alloc = 0n, reason } = splice;
    if (this.#ended.has(id) || this.#endedBefore.has(id)) return;
    const stored = this.#maps.splice(id);
    // It went with its allocation, and its end was told.
    if (!stored && !this.#allocations.has(allocationOf(alloc))) return;
    if (stored) {
      this.#live.set(id, { alloc, isOver: stored.isOver, synAcks: this.#live.get(id)?.synAcks ?? 0 });
      for (const side of [0, 1] as const) if (unanswered & (1 << side)) this.#maps.sendSynAck(stored, side);
      this.#deadlines.set(id, now());
    } else {
      this.#live.delete(id);
    }
    for (const event of this.#events.splice(splice)) this.#emit(event);
    if (isDead && stored) {
      // First: what an end asks back is for the stack, which answers with its own RST.
      this.#end([id], reason ?? "released");
      this.#maps.resetOne(stored);
    }
  }

  #tick(): void {
    const ids: bigint[] = [];
    for (const key of this.#deadlines.take(now())) {
      if (typeof key === "string") this.#checkHalf(key);
      else if (ids.push(key) === AT_ONCE) break;
    }
    if (ids.length === 0) return;
    this.#checkSplices(ids);
    if (ids.length === AT_ONCE) this.#soon ??= setImmediate(() => this.#tickOn());
  }

  /** More is due than one turn of the loop should do. */
  #tickOn(): void {
    this.#soon = undefined;
    if (this.#isOpen) this.#tick();
  }

  #checkLost(): void {
    this.#endedBefore = this.#ended;
    this.#ended = new Set();
    const lost = this.#maps.lostEvents();
    if (lost === this.#lost) return;
    this.#lost = lost;
    this.#options.logger.warn({ lost }, "events of the BPF data path were lost");
    this.#recalling = this.#recalling.then(async () => {
      if (!this.#isOpen) return;
      await this.#recall();
      this.#emit({ event: "resynchronise" });
    });
  }

  /** When a splice ends if nothing happens on it, and why; at once when its allocation is unknown. */
  #endOf(splice: StoredSplice): { due: number; reason: IstReason } {
    const { isUdp, state, isOver, created, heard, alloc } = splice;
    const known = this.#allocations.get(allocationOf(alloc));
    if (!known) return { due: 0, reason: "released" };
    return endOf({ isUdp, state, isOver, created, heard }, known.settings, this.#tcpTimes);
  }

  #checkSplices(ids: readonly bigint[]): void {
    const due = new Map<IstReason, bigint[]>();
    const stored = this.#maps.splicesOf(ids);
    for (const splice of stored) {
      const reason = this.#checkSplice(splice);
      if (reason) push(due, reason, splice.id);
    }
    if (stored.length < ids.length) {
      const there = new Set(stored.map(({ id }) => id));
      for (const id of ids) if (!there.has(id)) this.#live.delete(id);
    }
    for (const [reason, some] of due) this.#end(some, reason);
  }

  /** @returns why it is to be ended now */
  #checkSplice(splice: StoredSplice): IstReason | undefined {
    const { id } = splice;
    const live = this.#live.get(id);
    if (!live) return undefined;
    const { due, reason } = this.#endOf(splice);
    if (due <= now() || (splice.isOver && this.#lingersTooMany(splice.alloc))) {
      this.#live.delete(id);
      return reason;
    }
    this.#deadlines.set(id, Math.min(due, this.#repeatSynAcks(splice, live)));
    return undefined;
  }

  /** Splices that are over are no more than those that are not may be: who opens and closes all the time fills no table. */
  #lingersTooMany(alloc: bigint): boolean {
    const { splices = 0 } = this.#allocations.get(allocationOf(alloc))?.settings ?? {};
    return splices > 0 && this.#live.over(alloc) > splices;
  }

  /** @returns when to look again */
  #repeatSynAcks(splice: StoredSplice, live: LiveSplice): number {
    if (splice.state !== "syn-rcvd") return Number.POSITIVE_INFINITY;
    const next = nextSynAck(splice.created, live.synAcks, this.#tcpTimes);
    if (next > now()) return next;
    const synAcks = live.synAcks + 1;
    this.#live.set(splice.id, { ...live, synAcks });
    for (const side of [0, 1] as const) if (!splice.hasAcked(side)) this.#maps.sendSynAck(splice, side);
    return nextSynAck(splice.created, synAcks, this.#tcpTimes);
  }

  #await(at: HalfAt, heard: number): void {
    const key = halfKey(at);
    this.#halves.set(key, at);
    this.#deadlines.set(key, heard + this.#patience(at));
  }

  #forgetHalf(at: HalfAt): void {
    const key = halfKey(at);
    this.#halves.delete(key);
    this.#deadlines.delete(key);
  }

  /** How long an unpaired leg may wait, in milliseconds. */
  #patience({ alloc, proto }: HalfAt): number {
    const known = this.#allocations.get(allocationOf(alloc));
    if (!known) return 0;
    return proto === 0 ? known.settings.halfMs : known.settings.udpIdleMs;
  }

  #checkHalf(key: string): void {
    const at = this.#halves.get(key);
    if (!at) return;
    const patience = this.#patience(at);
    const answer = this.#maps.endHalf(at, now() - patience, "no-peer-leg");
    // It has sent again meanwhile; when exactly is not worth a look.
    if (answer === "later") this.#deadlines.set(key, now() + Math.max(TICK_MS, patience / 8));
    else {
      this.#halves.delete(key);
      // The source of a fan-out is gone: nothing comes to its receivers any more.
      const isFanout = this.#allocations.get(allocationOf(at.alloc))?.cells.get(at.cell)?.fanout;
      if (isFanout) this.#end(this.#maps.udpAt(at.alloc, at.cell), "idle-limit");
    }
  }

  /** Takes splices out, as many as one turn of the loop should. */
  #end(ids: readonly bigint[], reason: IstReason): void {
    const ended = this.#maps.endSplices(ids, reason);
    for (const id of ids) {
      this.#live.delete(id);
      this.#ended.add(id);
    }
    this.#tellEnded(ids, reason);
    this.#resets.add(ended);
  }

  /** Takes out all of an allocation that is gone: first those, then what is known and told of them, then the ends' resets. */
  async #endAll(ids: readonly bigint[], reason: IstReason): Promise<void> {
    const parts = Array.from({ length: Math.ceil(ids.length / AT_ONCE) }, (_, n) =>
      ids.slice(n * AT_ONCE, (n + 1) * AT_ONCE),
    );
    const ended: Buffer[] = [];
    for (const [n, some] of parts.entries()) {
      if (n > 0) await turn();
      ended.push(this.#maps.endSplices(some, reason));
    }
    for (const [n, some] of parts.entries()) {
      if (n > 0) await turn();
      this.#tellEnded(some, reason);
    }
    for (const some of ended) this.#resets.add(some);
  }

  #tellEnded(ids: readonly bigint[], reason: IstReason): void {
    for (const id of ids) {
      this.#deadlines.delete(id);
      for (const event of this.#events.splice({ id, reason })) this.#emit(event);
    }
  }

  #limit(known: Known, settings: AllocationSettings): void {
    this.#maps.setAllocation(known.id, settings);
    known.settings = settings;
    for (const id of this.#live.of(known.id)) this.#deadlines.set(id, now());
    for (const [key, { alloc }] of this.#halves) if (alloc === known.id) this.#deadlines.set(key, now());
  }

  #setSources(known: Known, sources: ExpectedSources): void {
    const wanted = sources.map((prefixes) => prefixes.map(withLength)) as [string[], string[]];
    for (const side of [0, 1] as const) {
      const before = new Set(known.sources[side]);
      const after = new Set(wanted[side]);
      for (const prefix of after) if (!before.has(prefix)) this.#maps.addSource(known.id, side, prefix);
      for (const prefix of before) if (!after.has(prefix)) this.#maps.deleteSource(known.id, side, prefix);
    }
    known.sources = wanted;
  }

  /** To the groups of these cells, by their number. */
  async #routes(cells: readonly CellPorts[]): Promise<Map<number, Route>> {
    const routes = new Map<number, Route>();
    for (const { cell, fanout } of cells) {
      if (!fanout?.group) continue;
      const { host, ifindex = 0 } = fanout.group;
      routes.set(cell, await this.#interfaces.route(ipBytes(host), ifindex));
    }
    return routes;
  }

  /** All of them or none. */
  #addCells(known: Known, cells: readonly CellPorts[], routes: ReadonlyMap<number, Route>): void {
    const added: CellPorts[] = [];
    try {
      for (const cell of cells) {
        this.#maps.addCell(known.id, cell, routes.get(cell.cell));
        added.push(cell);
      }
    } catch (error) {
      for (const cell of added) this.#maps.removeCell(known.id, cell, "released");
      throw error;
    }
    for (const cell of added) known.cells.set(cell.cell, cell);
  }

  #removeCell(known: Known, cell: CellPorts, reason: IstReason): void {
    this.#end(this.#maps.removeCell(known.id, cell, reason), reason);
    known.cells.delete(cell.cell);
    this.#pool.give([cell]);
  }

  #unwind(): void {
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }
}

const IPPROTO_TCP = 6;

function push<K, V>(to: Map<K, V[]>, key: K, value: V): void {
  const values = to.get(key);
  if (values) values.push(value);
  else to.set(key, [value]);
}

function sorted({ cells }: Known): CellPorts[] {
  return [...cells.values()].sort((a, b) => a.cell - b.cell);
}

function halfKey({ alloc, cell, proto, side }: HalfAt): string {
  return `${alloc}.${cell}.${proto}.${side}`;
}

/** As {@link SpliceMaps.sources} tells them. */
function withLength(prefix: string): string {
  if (prefix.includes("/")) return prefix;
  return `${prefix}/${prefix.includes(":") ? 128 : 32}`;
}

function isPortTaken(error: unknown): boolean {
  return error instanceof BpfError && error.errno === EEXIST;
}

/** What a map refuses, it has no room for. */
function full(error: unknown): unknown {
  return error instanceof BpfError ? new IsthmusError("ist-full", error.message, { cause: error }) : error;
}

import { existsSync } from "node:fs";
import {
  type GenericEvent,
  GenericFamily,
  IST_FAMILY,
  type IstAlloc,
  type IstSplice,
  NetlinkError,
  NLCTRL,
} from "@isthmus/native/netlink";
import { type Code, IsthmusError } from "@isthmus/protocol";
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
  OpenOptions,
} from "../data-path.ts";
import { HostLock } from "../host-lock.ts";
import { CellPool } from "./cell-pool.ts";
import { KernelAllocation } from "./kernel-allocation.ts";
import { KernelCounters } from "./kernel-counters.ts";
import { Listeners } from "./listeners.ts";
import { SpliceEvents } from "./splice-events.ts";
import {
  allocationOf,
  joinAllocations,
  kernelCell,
  kernelId,
  kernelLimits,
  kernelSources,
  kernelTimeouts,
  learnedPort,
  reasonOf,
  spliceDump,
} from "./translation.ts";

type Ist = GenericFamily<typeof IST_FAMILY>;
type Nlctrl = GenericFamily<typeof NLCTRL>;

/** The kernel's tables belong to the network namespace, and so does the right to use them. */
const LOCK = "isthmus-ist-kernel";
/** The kernel ends an allocation that no process has claimed for this long: an IST that never came back. */
const ABANDONED_MS = 24 * 3_600_000;
const NOT_LOADED = "the kernel's data path is not loaded";
const CLAIM_EVERY_MS = 3_600_000;
/** A list that changed while it was read is read again, as often as this; then it is good enough. */
const DUMP_TRIES = 5;
/** What refusals of the kernel are to a caller. */
const CODES: Readonly<Record<string, Code>> = {
  EEXIST: "conflict",
  EADDRINUSE: "ist-full",
  ENOENT: "unknown-allocation",
  ENOMEM: "ist-full",
  ENOSPC: "ist-full",
};

export interface KernelOptions {
  logger: Logger;
  /** Local addresses of the cells; the module takes ports on all of them and can have none. */
  bind?: readonly string[];
  /** Room for events while this process is busy; by default 4 MiB. */
  eventBufferBytes?: number;
}

/**
 * The data path in the kernel: the module `ist_splice`, set up over generic netlink. Packets never enter this process, and
 * cells and splices go on when it ends; the next one finds them again. When the module is loaded anew, the allocations
 * are made in it again, with the ports that they had.
 */
export class KernelDataPath implements DataPath {
  readonly #options: KernelOptions;
  /** What undoes the steps of `open`, in their order. */
  readonly #undo: (() => void)[] = [];
  readonly #allocations = new Map<string, KernelAllocation>();
  readonly #events = new SpliceEvents();
  readonly #counters = new KernelCounters();
  readonly #listeners = new Listeners();
  #pool!: CellPool;
  #udpIdleMs = 0;
  #emit: (event: DataPathEvent) => void = () => undefined;
  /** Absent while the module is not loaded. */
  #ist: Ist | undefined;
  /** Bringing the module's state up to date; one after the other. */
  #following: Promise<void> = Promise.resolve();
  #isOpen = false;

  constructor(options: KernelOptions) {
    this.#options = options;
  }

  async open({ ports, udpIdleMs, onEvent }: OpenOptions): Promise<Capabilities> {
    const { logger, bind = [] } = this.#options;
    if (bind.length > 0) throw new Error("the module takes ports on all addresses, and data_path.addresses names some");
    this.#udpIdleMs = udpIdleMs;
    this.#emit = onEvent;
    this.#pool = await CellPool.of(ports);
    try {
      // First of all: without the module nothing here is of use.
      const ist = await this.#connect();
      const lock = await HostLock.take(LOCK, "another IST uses the kernel's data path");
      this.#undo.push(() => lock.release());
      await this.#adopt(ist);
      await this.#watchModule();
    } catch (error) {
      this.#unwind();
      throw error instanceof NetlinkError ? new Error(whyNot(error), { cause: error }) : error;
    }
    this.#isOpen = true;
    this.#pool.reserve(logger);
    const claims = setInterval(() => void this.#claim(), CLAIM_EVERY_MS);
    claims.unref();
    this.#undo.push(() => clearInterval(claims));
    return {
      name: "kernel",
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
    const made = new KernelAllocation(kernelId(allocation), {
      sources: kernelSources(sources),
      limits: kernelLimits(limits),
      timeouts: kernelTimeouts(limits, this.#udpIdleMs),
    });
    this.#allocations.set(allocation, made);
    try {
      await this.#pool.with(cells, isPortTaken, async (opened) => {
        await this.#request("alloc-new", {
          ...made.settings,
          id: made.id,
          lifetime: BigInt(ABANDONED_MS),
          cell: opened.map(kernelCell),
        });
        made.add(opened);
      });
    } catch (error) {
      this.#allocations.delete(allocation);
      throw error;
    }
    return made.cells;
  }

  async update(allocation: string, { sources, cells, limits }: AllocationUpdate): Promise<CellPorts[]> {
    const known = this.#allocations.get(allocation);
    if (!known) throw new IsthmusError("unknown-allocation");
    const settings: Pick<IstAlloc, "sources" | "limits" | "timeouts"> = {
      ...(sources ? { sources: kernelSources(sources) } : {}),
      ...(limits ? { limits: kernelLimits(limits), timeouts: kernelTimeouts(limits, this.#udpIdleMs) } : {}),
    };
    const added = cells?.filter(({ cell }) => !known.has(cell)) ?? [];
    const removed = cells ? known.cells.filter(({ cell }) => !cells.some((each) => each.cell === cell)) : [];
    await this.#pool.with(added, isPortTaken, async (opened) => {
      // Without the module it is known here alone, until that is back; only new cells must be somewhere.
      if (this.#ist || opened.length > 0) {
        await this.#request("alloc-set", {
          ...settings,
          id: known.id,
          cell: opened.map(kernelCell),
          removeCell: removed.map(({ cell }) => cell),
        });
      }
      known.change(settings);
      known.add(opened);
    });
    this.#pool.give(known.remove(removed));
    return known.cells;
  }

  async release(allocation: string, code: Code): Promise<void> {
    const known = this.#allocations.get(allocation);
    if (!known) return;
    try {
      if (this.#ist) await this.#request("alloc-del", { id: known.id, reason: reasonOf(code) });
    } catch (error) {
      if ((error as IsthmusError).code !== "unknown-allocation") throw error;
    }
    this.#forget(allocation, known);
  }

  async learn(allocation: string, cell: number, port: number): Promise<void> {
    const known = this.#allocations.get(allocation);
    const learns = known?.get(cell)?.pure?.learns;
    if (!known || learns === undefined) throw new IsthmusError("unknown-allocation");
    // Such a port is nobody's here: packets of those who use it by right must not be taken away.
    if (await this.#listeners.holds(port)) throw new IsthmusError("conflict", `this host listens on port ${port}`);
    await this.#request("alloc-set", { id: known.id, cell: [learnedPort(cell, learns, port)] });
  }

  async dump(): Promise<AllocationDump[]> {
    const splices = await this.#splices();
    const living = Map.groupBy(
      splices.filter(({ reason }) => reason === undefined),
      ({ alloc = 0n }) => allocationOf(alloc),
    );
    return Array.from(this.#allocations, ([allocation, { cells }]) => ({
      allocation,
      cells,
      splices: (living.get(allocation) ?? []).map(spliceDump),
    }));
  }

  get problem(): string | undefined {
    return this.#ist ? undefined : NOT_LOADED;
  }

  async stats(): Promise<DataPathStats> {
    const counted = this.#counters.take(await this.#get(this.#connected()));
    return { ...counted, pureSplices: this.#events.pure };
  }

  async close(): Promise<void> {
    this.#isOpen = false;
    this.#unwind();
    await this.#following;
    this.#allocations.clear();
  }

  /** Finds the module and listens to it. @throws NetlinkError */
  async #connect(): Promise<Ist> {
    const { eventBufferBytes } = this.#options;
    const ist = await GenericFamily.open(IST_FAMILY, eventBufferBytes === undefined ? {} : { eventBufferBytes });
    try {
      ist.subscribe(["events"], {
        onEvent: (event) => this.#take(event),
        onResynchronise: (reason) => {
          this.#options.logger.warn({ reason }, "events of the kernel's data path were lost");
          this.#follow(async () => {
            if (this.#ist === ist) this.#events.reset(await this.#splices());
            this.#emit({ event: "resynchronise" });
          });
        },
      });
    } catch (error) {
      ist.close();
      throw error;
    }
    this.#ist = ist;
    this.#undo.push(() => ist.close());
    return ist;
  }

  /** Takes over what an earlier life of this process has left. */
  async #adopt(ist: Ist): Promise<void> {
    const { entries } = await complete(() => ist.dump("alloc-get", {}));
    for (const { id, cell = [], sources, limits, timeouts } of joinAllocations(entries)) {
      const found = KernelAllocation.found(id, cell, { sources, limits, timeouts });
      this.#allocations.set(allocationOf(id), found);
      this.#pool.hold(found.cells);
    }
    this.#events.reset(await this.#splices());
    this.#counters.start(await this.#get(ist));
    await this.#claim();
  }

  /** Says that somebody cares for the allocations. */
  async #claim(): Promise<void> {
    if (!this.#ist) return;
    const claims = Array.from(this.#allocations.values(), ({ id }) =>
      this.#request("alloc-set", { id, lifetime: BigInt(ABANDONED_MS) }),
    );
    for (const claim of await Promise.allSettled(claims)) {
      if (claim.status === "fulfilled") continue;
      this.#options.logger.warn({ err: claim.reason as unknown }, "an allocation could not be claimed");
    }
  }

  /** Notices when the module is unloaded, and when it is loaded again. */
  async #watchModule(): Promise<void> {
    const nlctrl: Nlctrl = await GenericFamily.open(NLCTRL);
    this.#undo.push(() => nlctrl.close());
    nlctrl.subscribe(["notify"], {
      onEvent: ({ operation, attributes: { familyName } }) => {
        if (familyName !== IST_FAMILY.name) return;
        if (operation === "delfamily") this.#moduleGone();
        if (operation === "newfamily") this.#follow(() => this.#moduleCame());
      },
      onResynchronise: () => undefined,
    });
  }

  #moduleGone(): void {
    this.#ist?.close();
    this.#ist = undefined;
    this.#counters.pause();
    this.#options.logger.error(
      {},
      "the kernel's data path was unloaded: its splices are gone, and no leg can meet at a cell",
    );
    for (const event of this.#events.lost()) this.#emit(event);
  }

  async #moduleCame(): Promise<void> {
    if (!this.#isOpen || this.#ist) return;
    const ist = await this.#connect();
    this.#counters.start(await this.#get(ist));
    for (const [allocation, { id, cells, settings }] of this.#allocations) {
      try {
        await this.#request("alloc-new", {
          ...settings,
          id,
          lifetime: BigInt(ABANDONED_MS),
          cell: cells.map(kernelCell),
        });
      } catch (error) {
        this.#options.logger.warn({ err: error, allocation }, "an allocation could not be made again");
      }
    }
    this.#options.logger.info({ allocations: this.#allocations.size }, "the kernel's data path is back");
  }

  #follow(task: () => Promise<void>): void {
    this.#following = this.#following
      .then(() => (this.#isOpen ? task() : undefined))
      .catch((error: unknown) => {
        if (this.#isOpen) this.#options.logger.warn({ err: error }, "the kernel's data path does not answer");
      });
  }

  #take(event: GenericEvent<typeof IST_FAMILY>): void {
    if (event.operation === "half-ntf") this.#emit(this.#events.half(event.attributes));
    else if (event.operation === "splice-ntf") {
      for (const each of this.#events.splice(event.attributes)) this.#emit(each);
    } else if (event.operation === "alloc-ntf" && event.attributes.id !== undefined) {
      const allocation = allocationOf(event.attributes.id);
      const known = this.#allocations.get(allocation);
      if (known) this.#forget(allocation, known);
    }
  }

  #forget(allocation: string, known: KernelAllocation): void {
    // It may have been made anew meanwhile.
    if (this.#allocations.get(allocation) !== known) return;
    this.#allocations.delete(allocation);
    this.#pool.give(known.cells);
  }

  async #splices(): Promise<IstSplice[]> {
    const ist = this.#connected();
    return (await complete(() => ist.dump("splice-get", {}))).entries;
  }

  #get(ist: Ist) {
    return ist.get("stats-get", {});
  }

  /** @throws IsthmusError */
  async #request(operation: "alloc-new" | "alloc-set" | "alloc-del", attributes: IstAlloc): Promise<void> {
    const ist = this.#connected();
    try {
      await ist.request(operation, attributes);
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error;
      const { code, message } = error;
      throw new IsthmusError(CODES[code] ?? "internal", message, { cause: error });
    }
  }

  #connected(): Ist {
    if (!this.#ist) throw new IsthmusError("ist-full", NOT_LOADED);
    return this.#ist;
  }

  #unwind(): void {
    for (const undo of this.#undo.splice(0).reverse()) undo();
    this.#ist = undefined;
  }
}

/** Why this host has no data path in its kernel. */
function whyNot(error: NetlinkError): string {
  if (error.code === "ENOENT") return "the module ist_splice is not loaded";
  if (error.code === "EPERM") return "CAP_NET_ADMIN is needed to use the module ist_splice";
  return error.message;
}

function isPortTaken(error: unknown): boolean {
  return error instanceof IsthmusError && error.cause instanceof NetlinkError && error.cause.code === "EADDRINUSE";
}

async function complete<T extends { interrupted: boolean }>(dump: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    const result = await dump();
    if (!result.interrupted || tries === DUMP_TRIES) return result;
  }
}

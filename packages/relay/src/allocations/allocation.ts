import { timingSafeEqual } from "node:crypto";
import type { CellPorts } from "@isthmus/datapath";
import type { AllocationLimits, Cell, Side } from "@isthmus/protocol";
import type { DaemonSession } from "../daemons/daemon-session.ts";
import { PairedOpens } from "../stream/paired-opens.ts";
import type { AllocationRecord } from "./record.ts";
import { SideSources } from "./side-sources.ts";

/** A living allocation as the relay holds it. */
export class Allocation {
  readonly id: string;
  readonly broker: string;
  readonly sides: readonly [string, string];
  readonly limits: AllocationLimits;
  readonly shares: AllocationRecord["shares"];
  /** Keys of the leg headers of each side. */
  readonly tokens: readonly [Buffer, Buffer];
  readonly sources: readonly [SideSources, SideSources] = [new SideSources(), new SideSources()];
  /** Who has joined, of each side. */
  readonly sessions: [DaemonSession | undefined, DaemonSession | undefined] = [undefined, undefined];
  /** Whose legs keep their source ports on the way, as far as each side's newest join has said. */
  readonly keepsPorts: [boolean, boolean] = [false, false];
  readonly pairedOpens = new PairedOpens();
  cells: readonly CellPorts[] = [];
  isInDataPath = false;
  isFree = false;
  /** Settles with the first write to the store: nobody is told of the allocation before. */
  written: Promise<void> = Promise.resolve();
  #last: Promise<unknown> = Promise.resolve();
  #lastLearned: Promise<void> = Promise.resolve();

  constructor(record: AllocationRecord) {
    this.id = record.allocation;
    this.broker = record.broker;
    this.sides = record.sides;
    this.limits = record.limits;
    this.shares = record.shares;
    this.tokens = [Buffer.from(record.shares[0].token, "base64url"), Buffer.from(record.shares[1].token, "base64url")];
    this.cells = record.cells;
  }

  /** Runs what changes the allocation one after the other, in the order of the calls. */
  serial<T>(task: () => Promise<T>): Promise<T> {
    const run = this.#last.then(task);
    this.#last = run.catch(() => undefined);
    return run;
  }

  /** The same for ports that are learned, beside everything else: a leg waits for each. It must not throw. */
  learning(task: () => Promise<void>): void {
    this.#lastLearned = this.#lastLearned.then(task);
  }

  sideOf(key: string): Side | undefined {
    const index = this.sides.indexOf(key);
    return index === -1 ? undefined : (index as Side);
  }

  isTicket(side: Side, ticket: string): boolean {
    return timingSafeEqual(Buffer.from(this.shares[side].ticket), Buffer.from(ticket));
  }

  /** The cells as one side sees them. */
  cellsOf(side: Side): Cell[] {
    return this.cells.map(({ cell, ports, pure }) => {
      const port = ports[side];
      if (!pure) return { cell, port };
      return { cell, port, pure: pure.learns === side ? {} : { source: ports[otherSide(side)] } };
    });
  }

  get expectedSources(): readonly [string[], string[]] {
    return [this.sources[0].prefixes, this.sources[1].prefixes];
  }

  get record(): AllocationRecord {
    const { id: allocation, broker, limits, shares } = this;
    return {
      allocation,
      broker,
      sides: [...this.sides],
      limits,
      shares,
      cells: this.cells.map(({ cell, ports, pure }) => ({ cell, ports: [...ports], ...(pure ? { pure } : {}) })),
    };
  }
}

export function otherSide(side: Side): Side {
  return side === 0 ? 1 : 0;
}

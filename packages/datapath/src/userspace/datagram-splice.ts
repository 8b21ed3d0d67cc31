import type { Code, HostPort } from "@isthmus/protocol";
import type { SpliceDump } from "../data-path.ts";
import type { SpliceMember } from "../splice/splice-account.ts";
import type { CellHost } from "./cell-host.ts";

/** What passed between two sources. */
export interface Traffic {
  /** From side 0, from side 1. */
  readonly bytes: readonly [number, number];
  /** When something passed last, of `performance.now()`. */
  readonly lastActive: number;
}

export interface DatagramSpliceOptions {
  host: CellHost;
  cell: number;
  sources: readonly [HostPort, HostPort];
  traffic: Traffic;
  /** It is over: nothing may pass any more when this returns. */
  onEnd: () => void;
}

/** A pair of sources at a cell, held to the allocation's limits like any splice. */
export class DatagramSplice implements SpliceMember {
  readonly since = performance.now();
  readonly ownIdleMs: number;
  readonly #options: DatagramSpliceOptions;
  readonly #id: number;
  #traffic: Traffic;

  constructor(options: DatagramSpliceOptions) {
    this.#options = options;
    this.#id = options.host.splicer.nextId();
    this.#traffic = options.traffic;
    this.ownIdleMs = options.host.udpIdleMs;
  }

  /** Counts it, and says that it is there. Whoever hears that may end it. */
  start(): void {
    const { host, cell } = this.#options;
    const { allocation, account, tally } = host;
    account.enter(this);
    tally.enter(this);
    tally.udpSplices++;
    const at = { allocation, cell, proto: "udp", splice: this.#id } as const;
    host.emit({ event: "paired", ...at });
    host.emit({ event: "established", ...at });
  }

  get lastActive(): number {
    return this.#traffic.lastActive;
  }

  /** Both ways together. */
  get bytes(): number {
    const [a, b] = this.#traffic.bytes;
    return a + b;
  }

  end(code: Code): void {
    const { host, cell, onEnd } = this.#options;
    const { allocation, account, tally } = host;
    onEnd();
    // The cell's counters are those of another pair soon.
    const { bytes, lastActive } = this.#traffic;
    this.#traffic = { bytes: [...bytes], lastActive };
    account.leave(this);
    tally.leave(this);
    tally.udpSplices--;
    tally.countClosed(code);
    host.emit({ event: "closed", allocation, cell, proto: "udp", splice: this.#id, code });
  }

  dump(now: number): SpliceDump {
    const { cell, sources } = this.#options;
    return {
      splice: this.#id,
      cell,
      proto: "udp",
      sources,
      bytes: [...this.#traffic.bytes],
      ageMs: now - this.since,
      idleMs: now - this.lastActive,
    };
  }
}

import type { DataPathStats, SpliceTally } from "@isthmus/datapath";
import type { Code } from "@isthmus/protocol";
import type { Metrics } from "@isthmus/service";
import type { ControlFrameOutcome } from "./daemons/control-frames.ts";
import type { RefusedAt } from "./refusals.ts";

/** What gauges show of a running relay; zeros before its start. */
export interface RelayGauges {
  sessions: number;
  allocations: number;
  brokersUp: number;
  draining: boolean;
  pendingConnections: number;
  streamHalves: number;
  dataPath: { driver: string; why: string };
}

const AT_REST: DataPathStats = {
  cells: 0,
  halves: 0,
  splices: 0,
  udpSplices: 0,
  pureSplices: 0,
  bytes: 0,
  closed: {},
  dropped: {},
};

/** The metrics of a relay (`isthmus_ist_*`): every reason of the protocol that it gives is a counter. */
export class RelayMetrics {
  readonly #refused;
  readonly #frames;
  readonly #sessionsClosed;
  readonly #freed;
  readonly #closed;
  readonly #dropped;
  readonly #bytes;
  #stats = AT_REST;
  #streamSplices = 0;
  #streamBytes = 0;
  readonly #streamClosed: Partial<Record<Code, number>> = {};

  constructor(metrics: Metrics, gauges: () => RelayGauges | undefined) {
    this.#refused = metrics.counter("refused_total", "Connections, legs, logins and requests that were refused", [
      "at",
      "reason",
    ]);
    this.#frames = metrics.counter("control_frames_total", "Control frames of daemons, by what became of them", [
      "outcome",
    ]);
    this.#sessionsClosed = metrics.counter("sessions_closed_total", "Sessions of daemons that ended", ["reason"]);
    this.#freed = metrics.counter("allocations_freed_total", "Allocations that ended", ["reason"]);
    this.#closed = metrics.counter("closed_total", "Legs and splices that ended or were refused", ["at", "reason"]);
    this.#dropped = metrics.counter("packets_dropped_total", "Packets that were not forwarded", ["reason"]);
    this.#bytes = metrics.counter("bytes_total", "Bytes forwarded, both ways together", ["at"]);
    metrics.info("data_path_info", "What moves the bytes, and why that", ["driver", "why"], () => gauges()?.dataPath);
    metrics.gauge("sessions", "Sessions of daemons", () => gauges()?.sessions ?? 0);
    metrics.gauge("allocations", "Living allocations", () => gauges()?.allocations ?? 0);
    metrics.gauge("brokers_up", "ISBs whose session is up", () => gauges()?.brokersUp ?? 0);
    metrics.gauge("draining", "1 while the IST takes no new allocations", () => Number(gauges()?.draining ?? false));
    metrics.gauge("pending_connections", "Connections that are no session yet, or a leg without a peer", () => {
      return gauges()?.pendingConnections ?? 0;
    });
    metrics.gauge("stream_halves", "Legs without a peer at the stream endpoint", () => gauges()?.streamHalves ?? 0);
    metrics.gauge("cells", "Cells", () => this.#stats.cells);
    metrics.gauge("halves", "Legs without a peer at cells", () => this.#stats.halves);
    metrics.gauge("splices", "Splices, at cells and at the stream endpoint", () => this.splices);
    metrics.gauge("udp_splices", "Splices that carry datagrams", () => this.#stats.udpSplices);
    metrics.gauge("pure_splices", "Splices whose ports pass unchanged", () => this.#stats.pureSplices);
  }

  readonly countRefused = (at: RefusedAt, reason: Code): void => this.#refused.inc({ at, reason });
  readonly countFrame = (outcome: ControlFrameOutcome): void => this.#frames.inc({ outcome });
  readonly countSessionClosed = (reason: Code): void => this.#sessionsClosed.inc({ reason });
  readonly countFreed = (reason: Code): void => this.#freed.inc({ reason });

  /** Splices at the newest {@link take}. */
  get splices(): number {
    return this.#stats.splices + this.#streamSplices;
  }

  /** Bytes forwarded until the newest {@link take}. */
  get bytes(): number {
    return this.#stats.bytes + this.#streamBytes;
  }

  /** Takes over what the data path and the stream endpoint have counted so far. */
  take(stats: DataPathStats, stream: SpliceTally): void {
    this.#bytes.inc({ at: "cell" }, stats.bytes - this.#stats.bytes);
    this.#bytes.inc({ at: "stream" }, stream.bytes - this.#streamBytes);
    for (const [reason, more] of increases(this.#stats.closed, stats.closed)) {
      this.#closed.inc({ at: "cell", reason }, more);
    }
    for (const [reason, more] of increases(this.#streamClosed, stream.closed)) {
      this.#closed.inc({ at: "stream", reason }, more);
    }
    for (const [reason, more] of increases(this.#stats.dropped, stats.dropped)) this.#dropped.inc({ reason }, more);
    this.#stats = stats;
    this.#streamSplices = stream.splices;
    this.#streamBytes = stream.bytes;
    Object.assign(this.#streamClosed, stream.closed);
  }
}

type Counts = Readonly<Record<string, number | undefined>>;

function increases(before: Counts, after: Counts): [reason: string, more: number][] {
  return Object.entries(after).map(([reason, count = 0]) => [reason, count - (before[reason] ?? 0)]);
}

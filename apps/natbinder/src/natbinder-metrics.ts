import type { BindAnswer, Binding, PortEntry, Reach, ReachReason } from "@isthmus/binding";
import type { Metrics } from "@isthmus/service";

/** Seconds; the last is what a program waits at most. */
const BIND_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];

/** What gauges show. */
export interface NatbinderGauges {
  entries: readonly PortEntry[];
  /** Of a mapped one: whether the world gets through. */
  reachOf: (entry: PortEntry) => Reach["state"];
  held: Binding["held"];
  hasGateway: boolean;
  isOnDisk: boolean;
}

/** The metrics of a natbinder (`isthmus_natbinder_*`). */
export class NatbinderMetrics {
  readonly #binds;
  readonly #refused;
  readonly #seconds;
  readonly #looks;

  constructor(metrics: Metrics, gauges: () => NatbinderGauges | undefined) {
    this.#binds = metrics.counter("binds_total", "Binds that were asked for, by the answer and its reason", [
      "answer",
      "reason",
    ]);
    this.#refused = metrics.counter("refused_total", "Connections that ended since what they said was wrong", [
      "reason",
    ]);
    this.#seconds = metrics.histogram("bind_seconds", "How long binds waited for their answer", BIND_BUCKETS);
    this.#looks = metrics.counter("looks_total", "Looks from outside at mapped ports, by what was found", ["reason"]);
    const ports = (state: PortEntry["state"]) => () =>
      gauges()?.entries.filter((entry) => entry.state === state).length ?? 0;
    metrics.gauge("ports_mapped", "Ports that are mapped", ports("mapped"));
    metrics.gauge("ports_waiting", "Ports that are to be mapped, and are not yet", ports("waiting"));
    metrics.gauge("ports_held", "Ports that are to be mapped, and are another host's", ports("held"));
    const reached = (wanted: Reach["state"]) => () => {
      const { entries = [], reachOf } = gauges() ?? {};
      return entries.filter((entry) => entry.state === "mapped" && reachOf?.(entry) === wanted).length;
    };
    metrics.gauge("ports_reachable", "Mapped ports that were reached from outside", reached("yes"));
    metrics.gauge("ports_unreachable", "Mapped ports that are not reached from outside", reached("no"));
    metrics.gauge(
      "ports_of_others",
      "Ports of the gateway that are known to be other hosts'",
      () => gauges()?.held.length ?? 0,
    );
    metrics.gauge("gateway_up", "1 while a gateway answers", () => Number(gauges()?.hasGateway ?? false));
    metrics.gauge("state_on_disk", "1 while the ideal state can be written", () => Number(gauges()?.isOnDisk ?? false));
  }

  /** @param milliseconds that the program waited, if it did */
  countBind(answer: BindAnswer, milliseconds?: number): void {
    this.#binds.inc({ answer: answer.answer, reason: answer.answer === "ignored" ? answer.reason : "" });
    if (milliseconds !== undefined) this.#seconds.observe(milliseconds / 1000);
  }

  countRefused(reason: string): void {
    this.#refused.inc({ reason });
  }

  countLook(reason: ReachReason): void {
    this.#looks.inc({ reason });
  }
}

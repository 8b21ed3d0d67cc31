import type { Metrics } from "@isthmus/service";

type Counter<L extends string> = ReturnType<typeof Metrics.prototype.counter<L>>;
type Histogram = ReturnType<Metrics["histogram"]>;

/** What is read at each scrape. */
export interface BrokerGauges {
  daemonSessions: () => number;
  istSessions: () => number;
  directoryServices: () => number;
  directoryPresent: () => number;
  watchers: () => number;
  subscriptions: () => number;
  allocations: () => number;
  negotiationsRunning: () => number;
}

/** From a millisecond on one host to a provider that is waited for. */
const NEGOTIATION_BUCKETS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600];

/** The counters of one broker, `isthmus_isb_*`. */
export class BrokerMetrics {
  readonly logins: Counter<"role">;
  readonly loginsRefused: Counter<"code">;
  readonly sessionsClosed: Counter<"role" | "code">;
  readonly messages: Counter<"role" | "type">;
  readonly messagesRefused: Counter<"role" | "type">;
  readonly negotiations: Counter<"outcome">;
  readonly negotiationSeconds: Histogram;
  readonly subscriptionsEnded: Counter<"code">;
  readonly pushes: Counter<"outcome">;
  readonly controlFrames: Counter<"outcome">;
  readonly probes: Counter<"outcome">;
  readonly portProbes: Counter<"outcome">;
  readonly store: Counter<"use" | "outcome">;

  constructor(metrics: Metrics, gauges: BrokerGauges) {
    this.logins = metrics.counter("logins_total", "Logins by role", ["role"]);
    this.loginsRefused = metrics.counter("logins_refused_total", "Refused connections and logins by reason", ["code"]);
    this.sessionsClosed = metrics.counter("sessions_closed_total", "Sessions that ended, by role and reason", [
      "role",
      "code",
    ]);
    this.messages = metrics.counter("messages_received_total", "Requests, events and binary frames received", [
      "role",
      "type",
    ]);
    this.messagesRefused = metrics.counter("messages_refused_total", "Messages of a wrong form or an unknown type", [
      "role",
      "type",
    ]);
    this.negotiations = metrics.counter("negotiations_total", "Negotiations by outcome: told or a reason", ["outcome"]);
    this.negotiationSeconds = metrics.histogram(
      "negotiation_seconds",
      "Time from subscribe to its answer, waiting for an absent provider included",
      NEGOTIATION_BUCKETS_S,
    );
    this.subscriptionsEnded = metrics.counter("subscriptions_ended_total", "Subscriptions that ended, by reason", [
      "code",
    ]);
    this.pushes = metrics.counter("pushes_total", "Directory events: sent, or left out since the peer reads slowly", [
      "outcome",
    ]);
    this.controlFrames = metrics.counter("control_frames_total", "Control frames of links by what became of them", [
      "outcome",
    ]);
    this.probes = metrics.counter("probes_total", "Dials to leg ports: reachable, or why not", ["outcome"]);
    this.portProbes = metrics.counter(
      "port_probes_total",
      "Ports that daemons had looked at from outside: what was found, or why it was refused",
      ["outcome"],
    );
    this.store = metrics.counter("store_operations_total", "Reads and writes of the store: ok, or a reason", [
      "use",
      "outcome",
    ]);
    metrics.gauge("daemon_sessions", "Daemons that are logged in", gauges.daemonSessions);
    metrics.gauge("ist_sessions", "ISTs that are logged in", gauges.istSessions);
    metrics.gauge("directory_services", "Services in the directory", gauges.directoryServices);
    metrics.gauge("directory_present", "Services whose provider is present", gauges.directoryPresent);
    metrics.gauge("watchers", "Sessions that watch the directory", gauges.watchers);
    metrics.gauge("subscriptions", "Living subscriptions", gauges.subscriptions);
    metrics.gauge("allocations", "Allocations that ISTs hold, as far as this ISB knows", gauges.allocations);
    metrics.gauge("negotiations_running", "Negotiations that have not ended", gauges.negotiationsRunning);
  }
}

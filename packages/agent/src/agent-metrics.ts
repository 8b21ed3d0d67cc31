import type { LinkEvent } from "@isthmus/link";
import type { Code } from "@isthmus/protocol";
import type { Metrics } from "@isthmus/service";

/** What the daemon counts. */
export class AgentMetrics {
  readonly streams;
  readonly links;
  readonly logins;
  readonly refusedAsks;

  constructor(
    metrics: Metrics,
    read: { streams: () => number; links: () => number; services: () => number; subscriptions: () => number },
  ) {
    this.streams = metrics.counter("streams_total", "Streams that ended, by side and reason", ["side", "reason"]);
    this.links = metrics.counter("link_events_total", "Control frames by way, and what links dropped or refused", [
      "event",
    ]);
    this.logins = metrics.counter("logins_total", "Sessions to the ISB that came up", []);
    this.refusedAsks = metrics.counter("asks_refused_total", "Negotiations that this provider refused, by reason", [
      "reason",
    ]);
    metrics.gauge("streams", "Streams that are open", read.streams);
    metrics.gauge("links", "Links to other daemons", read.links);
    metrics.gauge("services", "Services that this device provides", read.services);
    metrics.gauge("subscriptions", "Subscriptions that this device holds", read.subscriptions);
  }

  streamEnded(side: "opened" | "answered", reason: Code): void {
    this.streams.inc({ side, reason });
  }

  linkEvent(event: LinkEvent): void {
    this.links.inc({ event });
  }
}

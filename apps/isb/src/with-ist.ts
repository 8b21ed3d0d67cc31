import { join } from "node:path";
import type { Broker } from "@isthmus/broker";
import { decodeInvite, encodeInvite, formatHostPort, parseHostPort } from "@isthmus/protocol";
import { Relay } from "@isthmus/relay";
import { type Logger, Metrics } from "@isthmus/service";
import type { Config } from "./config.ts";

/** The IST in this process shows its invite at once. */
const INVITE_LIFETIME_S = 600;

/** HOST:PORT at which this process reaches its own ISB. */
export function localAddresses({ listen }: Config): string[] {
  const { host, port } = parseHostPort(listen)!;
  const isWildcard = host === "::" || host === "0.0.0.0";
  const hosts = isWildcard ? ["127.0.0.1", "::1"] : [host];
  return hosts.map((address) => formatHostPort({ host: address, port }));
}

/** How the port itself is spoken to: a proxy in front is passed by. */
export function localScheme({ tls }: Config): "ws" | "wss" {
  return tls.mode === "on" ? "wss" : "ws";
}

/**
 * An IST beside its ISB: it logs in over loopback like any other, with an invite that is made at each start, since port
 * and certificate may be others than before. A known key does not use it up.
 * @param options.certificate fingerprint of the ISB's own
 */
export async function startRelay(options: {
  config: Config;
  broker: Broker;
  certificate: string | undefined;
  metrics: Metrics;
  logger: Logger;
}): Promise<Relay> {
  const { config, broker, certificate, metrics, logger } = options;
  const { text } = await broker.operations.createInvite({ role: "ist", uses: 1, lifetimeS: INVITE_LIFETIME_S });
  const { certificate: _public, ...invite } = decodeInvite(text);
  const registration = encodeInvite({
    ...invite,
    addresses: localAddresses(config),
    secure: localScheme(config) === "wss",
    ...(certificate === undefined ? {} : { certificate }),
  });
  const relay = new Relay({
    config: { ...config.ist, data: join(config.data, "ist"), isbs: [], registration },
    metrics,
    logger: logger.child({ part: "ist" }),
  });
  await relay.start();
  return relay;
}

/** The metrics of both halves on one page. */
export class JoinedMetrics extends Metrics {
  readonly #other: Metrics;

  constructor(part: "isb", other: Metrics) {
    super(part);
    this.#other = other;
  }

  override async scrape(): Promise<string> {
    return (await super.scrape()) + (await this.#other.scrape());
  }
}

import { join } from "node:path";
import { Broker, createAdminApi, loadOrCreateAdminToken } from "@isthmus/broker";
import { fingerprintOf, formatHostPort, parseHostPort } from "@isthmus/protocol";
import type { Relay } from "@isthmus/relay";
import {
  type Certificate,
  createLogger,
  type Logger,
  loadCertificate,
  loadOrCreateCertificate,
  loadOrCreateIdentity,
  Metrics,
  stopOnSignals,
  VERSION,
} from "@isthmus/service";
import { openStore } from "@isthmus/store";
import type { Config } from "./config.ts";
import { JoinedMetrics, localAddresses, localScheme, startRelay } from "./with-ist.ts";

/** Runs an ISB until it is told to stop. */
export async function serve(config: Config): Promise<void> {
  const logger = createLogger({ name: "isb", level: config.log_level });
  const relayMetrics = config.with_ist ? new Metrics("ist") : undefined;
  const metrics = relayMetrics ? new JoinedMetrics("isb", relayMetrics) : new Metrics("isb");
  metrics.collectProcess();
  const identity = loadOrCreateIdentity(join(config.data, "isb.pem"));
  const token = config.admin.token ?? loadOrCreateAdminToken(config.data);
  const certificate = await certificateOf(config);
  const store = await openStore(config.store ?? join(config.data, "store"), { logger });
  const { host, port } = parseHostPort(config.listen)!;
  const broker = new Broker({
    identity,
    store,
    settings: config,
    host,
    port,
    certificate,
    local: config.with_ist ? localAddresses(config).map((address) => `${localScheme(config)}://${address}`) : [],
    isBehindProxy: config.tls.mode === "proxy",
    pin: pinOf(config, certificate),
    metrics,
    logger,
  });
  const admin = await createAdminApi({
    operations: broker.operations,
    token,
    version: VERSION,
    metrics,
    notReady: () => broker.notReady(),
    logger,
  });
  let relay: Relay | undefined;
  const stop = async (): Promise<void> => {
    // The relay first: its splices may finish while daemons can still talk to the ISB.
    await relay?.stop();
    await admin.close();
    await broker.stop();
    await store.close();
  };
  // A second signal ends the process at once: then no peer may take a cut stream for a whole one.
  process.once("exit", () => relay?.abort());
  stopOnSignals(logger, stop);
  try {
    await broker.start();
    if (relayMetrics) {
      relay = await startRelay({
        config,
        broker,
        certificate: certificate?.fingerprint,
        metrics: relayMetrics,
        logger,
      });
    }
    await admin.listen(parseHostPort(config.admin.listen)!);
  } catch (error) {
    await stop();
    throw error;
  }
  sayReady(config, broker, fingerprintOf(identity.publicKey), logger);
}

async function certificateOf({ tls, data }: Config): Promise<Certificate | undefined> {
  if (tls.mode !== "on") return undefined;
  if (tls.cert !== undefined) return loadCertificate(tls.cert, tls.key!);
  return loadOrCreateCertificate(data, "isthmus-isb");
}

/** A self-signed certificate is trusted by its fingerprint; one that was given has an issuer, and is renewed. */
function pinOf({ tls }: Config, certificate: Certificate | undefined): string | undefined {
  return tls.pin ?? (tls.cert === undefined ? certificate?.fingerprint : undefined);
}

function sayReady(config: Config, broker: Broker, key: string, logger: Logger): void {
  const { listen, admin, data } = config;
  if (broker.operations.users("", 1).items.length === 0) {
    logger.info({}, "nobody is registered yet: 'isthmus-isb invite NAME' makes an invite for a user");
  }
  logger.info({ listen, addresses: broker.addresses(), admin: admin.listen, data, key, pid: process.pid }, "ready");
}

/** Where the commands reach a running ISB's admin API. */
export function adminOrigin(config: Config): string {
  const { host, port } = parseHostPort(config.admin.listen)!;
  const wildcards: Record<string, string> = { "::": "::1", "0.0.0.0": "127.0.0.1" };
  return `http://${formatHostPort({ host: wildcards[host] ?? host, port })}`;
}

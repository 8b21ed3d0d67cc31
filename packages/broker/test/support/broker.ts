import { Broker, type brokerSettings } from "@isthmus/broker";
import { decodeInvite } from "@isthmus/protocol";
import { type Certificate, createIdentity, type Identity, Metrics, silentLogger } from "@isthmus/service";
import { openStore, type Store } from "@isthmus/store";
import { onTestFinished } from "vitest";
import type { z } from "zod";
import { testSettings } from "./settings.ts";

export interface TestBroker {
  broker: Broker;
  identity: Identity;
  port: number;
  origin: string;
  metrics: Metrics;
  store: Store;
  /** The token of an invite for a device of `user`. */
  invite(user: string, uses?: number): Promise<string>;
  inviteIst(): Promise<string>;
  stop(): Promise<void>;
}

export interface TestBrokerOptions {
  identity?: Identity;
  /** By default a new one in memory, which is closed with the test. */
  store?: Store;
  settings?: z.input<typeof brokerSettings>;
  host?: string;
  port?: number;
  certificate?: Certificate;
  isBehindProxy?: boolean;
}

/** A real broker on loopback. It is stopped when the test has finished. */
export async function startBroker(options: TestBrokerOptions = {}): Promise<TestBroker> {
  const identity = options.identity ?? createIdentity();
  const store = options.store ?? (await openStore("memory:", { logger: silentLogger() }));
  const metrics = new Metrics("isb");
  const broker = new Broker({
    identity,
    store,
    settings: testSettings(options.settings),
    host: options.host ?? "127.0.0.1",
    port: options.port ?? 0,
    certificate: options.certificate,
    isBehindProxy: options.isBehindProxy ?? false,
    pin: options.certificate?.fingerprint,
    metrics,
    logger: silentLogger(),
  });
  const port = await broker.start();
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopping ??= broker.stop();
    return stopping;
  };
  onTestFinished(async () => {
    await stop();
    if (!options.store) await store.close();
  });
  const create = async (invite: Parameters<Broker["operations"]["createInvite"]>[0]): Promise<string> =>
    decodeInvite((await broker.operations.createInvite(invite)).text).token;
  return {
    broker,
    identity,
    port,
    origin: `${options.certificate ? "wss" : "ws"}://127.0.0.1:${port}`,
    metrics,
    store,
    invite: (user, uses = 1) => create({ role: "daemon", user, uses, lifetimeS: 3600 }),
    inviteIst: () => create({ role: "ist", uses: 1, lifetimeS: 3600 }),
    stop,
  };
}

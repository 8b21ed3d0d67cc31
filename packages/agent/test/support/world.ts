import { randomUUID } from "node:crypto";
import { Broker, brokerSettings } from "@isthmus/broker";
import { decodeInvite, encodeInvite, type IsthmusError } from "@isthmus/protocol";
import { Relay, relayConfig } from "@isthmus/relay";
import { createIdentity, type Logger, Metrics, silentLogger } from "@isthmus/service";
import { openStore } from "@isthmus/store";
import type { FastifyInstance } from "fastify";
import { onTestFinished } from "vitest";
import { Agent, createLocalApi, DeviceKey, LogRing } from "../../src/index.ts";
import { temporaryFolder } from "./folder.ts";

/** Rates that no test reaches by accident. */
const FREE = { per_second: 1_000_000, burst: 1_000_000 };
const SETTINGS = brokerSettings.parse({
  grace_seconds: 1,
  rates: {
    connects: FREE,
    requests: FREE,
    service_changes: FREE,
    subscribes: FREE,
    invites: FREE,
    control_frames: FREE,
    probes_per_device: FREE,
    probes_per_address: FREE,
  },
});

/** A real ISB on loopback, and real ISTs that it knows. */
export class World {
  readonly identity = createIdentity();
  readonly relays: Relay[] = [];
  #store = openStore("memory:", { logger: silentLogger() });
  #broker: Broker | undefined;
  /** The same one over restarts. */
  #port = 0;

  static async start(options: { ists?: number } = {}): Promise<World> {
    const world = new World();
    onTestFinished(() => world.#stop());
    await world.startIsb();
    for (let count = options.ists ?? 1; count > 0; count--) await world.startIst();
    return world;
  }

  get broker(): Broker {
    return this.#broker!;
  }

  async startIsb(): Promise<void> {
    this.#broker = new Broker({
      identity: this.identity,
      store: await this.#store,
      settings: SETTINGS,
      host: "127.0.0.1",
      port: this.#port,
      isBehindProxy: false,
      metrics: new Metrics("isb"),
      logger: silentLogger(),
    });
    this.#port = await this.#broker.start();
  }

  async stopIsb(): Promise<void> {
    await this.#broker?.stop();
    this.#broker = undefined;
  }

  async startIst(): Promise<Relay> {
    const { text } = await this.broker.operations.createInvite({ role: "ist", uses: 1, lifetimeS: 600 });
    const relay = new Relay({
      config: relayConfig.parse({
        data: temporaryFolder(),
        name: `ist-${this.relays.length}`,
        listen: { addresses: ["127.0.0.1"], port: 0 },
        public: ["127.0.0.1"],
        insecure: true,
        lock: `isthmus-ist-test-${randomUUID()}`,
        drain_seconds: 0,
        registration: this.#reachable(text),
      }),
      logger: silentLogger(),
      metrics: new Metrics("ist"),
    });
    this.relays.push(relay);
    await relay.start();
    return relay;
  }

  /** An invite for a device of `user`. */
  async invite(user: string): Promise<string> {
    const { text } = await this.broker.operations.createInvite({ role: "daemon", user, uses: 1, lifetimeS: 600 });
    return this.#reachable(text);
  }

  /** Where the ISB is, with whatever port the system has chosen. */
  #reachable(invite: string): string {
    return encodeInvite({ ...decodeInvite(invite), addresses: [`127.0.0.1:${this.#port}`], secure: false });
  }

  async #stop(): Promise<void> {
    await Promise.all(this.relays.map((relay) => relay.stop()));
    await this.stopIsb();
    await (await this.#store).close();
  }
}

export interface TestAgentOptions {
  folder?: string;
  direct?: boolean;
  mostStreams?: number;
  logger?: Logger;
}

/** A daemon's body with its local API, as the process would have it. */
export class TestAgent {
  readonly folder: string;
  readonly agent: Agent;
  readonly api: FastifyInstance;
  readonly logs = new LogRing();
  readonly metrics = new Metrics("daemon");
  #stopping: Promise<void> | undefined;

  constructor(options: TestAgentOptions = {}) {
    this.folder = options.folder ?? temporaryFolder();
    const logger = options.logger ?? silentLogger();
    this.agent = new Agent({
      version: "0.0.0",
      folder: this.folder,
      key: new DeviceKey(this.folder),
      direct: { enabled: options.direct ?? false, port: 0 },
      insecure: false,
      mostStreams: options.mostStreams ?? 1000,
      metrics: this.metrics,
      logger,
    });
    this.api = createLocalApi({ agent: this.agent, logs: this.logs, metrics: this.metrics, logger });
    onTestFinished(() => this.stop());
  }

  static async start(options: TestAgentOptions = {}): Promise<TestAgent> {
    const started = new TestAgent(options);
    await started.agent.start();
    return started;
  }

  stop(): Promise<void> {
    this.#stopping ??= (async () => {
      await this.api.close();
      await this.agent.stop();
    })();
    return this.#stopping;
  }
}

/** A device of a user, logged in. */
export async function device(world: World, user: string, options: TestAgentOptions = {}): Promise<TestAgent> {
  const started = await TestAgent.start(options);
  await started.agent.login(await world.invite(user), "laptop");
  return started;
}

export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "no error";
  } catch (error) {
    return (error as IsthmusError).code ?? (error as Error).message;
  }
}

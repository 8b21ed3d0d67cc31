import { LoopbackBroker } from "@isthmus/broker/testing";
import type { IsthmusError } from "@isthmus/protocol";
import type { Relay } from "@isthmus/relay";
import { startLoopbackRelay } from "@isthmus/relay/testing";
import { type Logger, Metrics, silentLogger } from "@isthmus/service";
import type { FastifyInstance } from "fastify";
import { onTestFinished } from "vitest";
import { Agent, createLocalApi, DeviceKey, LogRing } from "../../src/index.ts";
import { temporaryFolder } from "./folder.ts";

/** A real ISB on loopback, and real ISTs that it knows. */
export class World {
  readonly #isb = new LoopbackBroker();
  readonly #relays: Relay[] = [];

  static async start(options: { ists?: number } = {}): Promise<World> {
    const world = new World();
    onTestFinished(() => world.#stop());
    await world.startIsb();
    for (let count = options.ists ?? 1; count > 0; count--) await world.#startIst();
    return world;
  }

  async startIsb(): Promise<void> {
    await this.#isb.start();
  }

  stopIsb(): Promise<void> {
    return this.#isb.stop();
  }

  /** An invite for a device of `user`. */
  invite(user: string): Promise<string> {
    return this.#isb.invite(user);
  }

  async #startIst(): Promise<void> {
    const name = `ist-${this.#relays.length}`;
    this.#relays.push(await startLoopbackRelay(await this.#isb.inviteIst(), temporaryFolder(), name));
  }

  async #stop(): Promise<void> {
    await Promise.all(this.#relays.map((relay) => relay.stop()));
    await this.#isb.close();
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

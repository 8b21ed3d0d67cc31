import { decodeInvite, encodeInvite } from "@isthmus/protocol";
import { createIdentity, Metrics, silentLogger } from "@isthmus/service";
import { openStore } from "@isthmus/store";
import { Broker } from "./broker.ts";
import { brokerSettings } from "./settings.ts";

/** Rates that no test reaches by accident. */
const FREE = { per_second: 1_000_000, burst: 1_000_000 };
const SETTINGS = brokerSettings.parse({
  // Who is gone is away soon.
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
    port_probes_per_device: FREE,
    port_probes_per_user: FREE,
    port_probes_per_address: FREE,
  },
});

/**
 * A real broker on a port of loopback, for tests of what talks to one: nothing is limited, nothing is on disk, and it is
 * the same one at the same port after a restart.
 */
export class LoopbackBroker {
  readonly #identity = createIdentity();
  readonly #store = openStore("memory:", { logger: silentLogger() });
  #broker: Broker | undefined;
  #port = 0;

  async start(): Promise<this> {
    this.#broker = new Broker({
      identity: this.#identity,
      store: await this.#store,
      settings: SETTINGS,
      host: "127.0.0.1",
      port: this.#port,
      isBehindProxy: false,
      metrics: new Metrics("isb"),
      logger: silentLogger(),
    });
    this.#port = await this.#broker.start();
    return this;
  }

  /** As an operator would; {@link start} goes on with all that it knew. */
  async stop(): Promise<void> {
    await this.#broker?.stop();
    this.#broker = undefined;
  }

  /** Stops it for good. */
  async close(): Promise<void> {
    await this.stop();
    await (await this.#store).close();
  }

  /** An invite for one device of a user. */
  invite(user: string): Promise<string> {
    return this.#invite({ role: "daemon", user });
  }

  inviteIst(): Promise<string> {
    return this.#invite({ role: "ist" });
  }

  async #invite(whom: { role: "daemon"; user: string } | { role: "ist" }): Promise<string> {
    if (!this.#broker) throw new Error("the broker is stopped");
    const { text } = await this.#broker.operations.createInvite({ ...whom, uses: 1, lifetimeS: 3600 });
    // The port is the system's choice, which the settings do not know.
    return encodeInvite({ ...decodeInvite(text), addresses: [`127.0.0.1:${this.#port}`], secure: false });
  }
}

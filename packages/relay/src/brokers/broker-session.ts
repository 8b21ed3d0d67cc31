import { type Code, HELD_PER_MESSAGE, type IstAddress, type IsthmusError, isbIst } from "@isthmus/protocol";
import type { Identity, Logger } from "@isthmus/service";
import { BACKOFF_TO_ISB, SessionClient } from "@isthmus/session";
import type { Allocations } from "../allocations/allocations.ts";
import type { BrokerConfig } from "../config.ts";

/** Changes within this time are told together. */
const COALESCE_MS = 100;

export interface Load {
  splices: number;
  bytesPerSecond: number;
}

/** The right to register at an ISB, once. */
export interface BrokerInvite {
  token: string;
  /** The ISB has taken it. */
  used: () => void;
}

export interface BrokerSessionOptions {
  broker: BrokerConfig;
  identity: Identity;
  boot: string;
  address: IstAddress;
  dataPath: "kernel" | "ebpf" | "userspace";
  allocations: Allocations;
  /** The load of now. */
  load: () => Load;
  /** While this IST is not registered. */
  invite?: BrokerInvite;
  logger: Logger;
}

/** The session to one ISB: says what this IST is and holds, takes its requests for allocations. */
export class BrokerSession {
  readonly #options: BrokerSessionOptions;
  readonly #client: SessionClient<typeof isbIst>;
  #changeTimer: NodeJS.Timeout | undefined;
  #invite: BrokerInvite | undefined;

  constructor(options: BrokerSessionOptions) {
    this.#options = options;
    this.#invite = options.invite;
    const { broker, identity, boot, allocations, logger, address } = options;
    const scheme = broker.secure ? "wss" : "ws";
    this.#client = new SessionClient<typeof isbIst>({
      protocol: isbIst,
      identity,
      role: "ist",
      serverRole: "isb",
      target: {
        origins: broker.addresses.map((host) => `${scheme}://${host}`),
        expect: { fingerprint: broker.fingerprint },
        ...(broker.certificate === undefined ? {} : { certificate: broker.certificate }),
      },
      boot,
      registration: () => this.#invite && { invite: this.#invite.token, device: address.name },
      // Whoever wrote ws into the configuration or the invite has asked for it.
      allowInsecure: !broker.secure,
      backoff: BACKOFF_TO_ISB,
      handlers: {
        requests: {
          allocate: async (_client, { sides, limits }) => {
            const { allocation, shares } = await allocations.allocate(broker.fingerprint, sides, limits);
            return { allocation, shares };
          },
          release: (_client, { allocation, code }) => {
            allocations.release(broker.fingerprint, allocation, code);
            return {};
          },
        },
        events: {},
      },
      hooks: { internalError: (_client, type, error) => logger.error({ err: error, type }, "request failed") },
      onLogin: () => this.#declare(),
      logger,
    });
  }

  start(): void {
    this.#client.start();
  }

  async stop(): Promise<void> {
    clearTimeout(this.#changeTimer);
    await this.#client.stop();
  }

  get fingerprint(): string {
    return this.#options.broker.fingerprint;
  }

  get isUp(): boolean {
    return this.#client.state === "up";
  }

  /** Why it is not up, as far as is known. */
  get problem(): IsthmusError | undefined {
    return this.#client.lastError;
  }

  /** An allocation of this ISB is over for a reason that was not its own word. */
  released(allocation: string, code: Code): void {
    this.#client.event("released", { allocation, code });
  }

  /** Number or readiness has changed: the ISB is told soon. */
  changed(): void {
    this.#changeTimer ??= setTimeout(() => {
      this.#changeTimer = undefined;
      this.tellLoad();
    }, COALESCE_MS);
  }

  tellLoad(): void {
    if (this.isUp) this.#sendLoad();
  }

  async #declare(): Promise<void> {
    const { address, dataPath, allocations, broker } = this.#options;
    this.#invite?.used();
    this.#invite = undefined;
    await this.#client.request("declare", { address, dataPath, room: { allocations: allocations.room } });
    const held = allocations.of(broker.fingerprint);
    for (let from = 0; from === 0 || from < held.length; from += HELD_PER_MESSAGE) {
      const page = held.slice(from, from + HELD_PER_MESSAGE);
      this.#client.event("hold", { allocations: page, last: from + HELD_PER_MESSAGE >= held.length });
    }
    this.#sendLoad();
  }

  #sendLoad(): void {
    const { allocations, load } = this.#options;
    const { size, room, draining } = allocations;
    this.#client.event("load", { allocations: size, room, draining, ...load() });
  }
}

import { randomBytes } from "node:crypto";
import {
  type EventBody,
  type isbDaemon as IsbDaemon,
  IsthmusError,
  isbDaemon,
  type RequestBody,
  type RequestInput,
} from "@isthmus/protocol";
import { createIdentity, type Identity, silentLogger } from "@isthmus/service";
import { BACKOFF_TO_IST, type LoginReply, SessionClient } from "@isthmus/session";
import { onTestFinished, vi } from "vitest";
import { EventLog } from "./event-log.ts";

type ToClient = (typeof IsbDaemon)["toClient"];
type Declaration = RequestInput<(typeof IsbDaemon)["toServer"], "declare">;
export type Service = Declaration["services"][number];
export type Ask = RequestBody<ToClient, "ask">;
export type Told = EventBody<ToClient, "told">;

export interface DaemonOptions {
  identity?: Identity;
  /** Token of an invite. */
  invite?: string;
  device?: string;
  boot?: string;
  /** Pinned. */
  certificate?: string;
  declaration?: Partial<Declaration>;
  /** What it makes of an ask; by default it accepts. */
  answer?: (ask: Ask) => Promise<{ handshake: string }> | { handshake: string };
}

export interface ServerAddress {
  origin: string;
  identity: Identity;
}

/** A daemon as the broker sees one: logs in, declares, answers asks, and keeps what it is told. */
export class TestDaemon {
  readonly identity: Identity;
  readonly boot: string;
  readonly client: SessionClient<typeof IsbDaemon>;
  readonly asks = new EventLog<Ask>();
  readonly told = new EventLog<Told>();
  readonly ended = new EventLog<EventBody<ToClient, "ended">>();
  readonly renegotiate = new EventLog<EventBody<ToClient, "renegotiate">>();
  readonly directory = new EventLog<EventBody<ToClient, "directory">>();
  readonly reachability = new EventLog<EventBody<ToClient, "reachability">>();
  readonly frames = new EventLog<Buffer>();
  readonly logins = new EventLog<LoginReply>();
  readonly downs = new EventLog<IsthmusError>();
  /** What it says at each login. */
  declaration: Declaration;
  /** What came of the newest declaration. */
  declared: Awaited<ReturnType<TestDaemon["declare"]>> | undefined;
  answer: NonNullable<DaemonOptions["answer"]>;

  constructor(server: ServerAddress, options: DaemonOptions = {}) {
    this.identity = options.identity ?? createIdentity();
    this.boot = options.boot ?? randomBytes(8).toString("hex");
    this.declaration = { services: [], subscriptions: [], ...options.declaration };
    this.answer = options.answer ?? (({ handshake }) => ({ handshake: `${handshake}-accepted`.slice(0, 12) }));
    this.client = new SessionClient<typeof IsbDaemon>({
      protocol: isbDaemon,
      identity: this.identity,
      role: "daemon",
      serverRole: "isb",
      target: {
        origins: [server.origin],
        expect: { key: server.identity.publicKey },
        ...(options.certificate === undefined ? {} : { certificate: options.certificate }),
      },
      boot: this.boot,
      ...(options.invite === undefined
        ? {}
        : {
            registration: () => ({
              invite: options.invite!,
              ...(options.device === undefined ? {} : { device: options.device }),
            }),
          }),
      allowInsecure: true,
      backoff: BACKOFF_TO_IST,
      handlers: {
        requests: {
          ask: (_client, ask) => {
            this.asks.push(ask);
            return this.answer(ask);
          },
        },
        events: {
          told: (_client, body) => this.told.push(body),
          ended: (_client, body) => this.ended.push(body),
          renegotiate: (_client, body) => this.renegotiate.push(body),
          directory: (_client, body) => this.directory.push(body),
          reachability: (_client, body) => this.reachability.push(body),
        },
        binary: (_client, frame) => this.frames.push(frame),
      },
      onLogin: async (reply) => {
        this.declared = await this.declare();
        this.logins.push(reply);
      },
      onDown: (error) => this.downs.push(error),
      logger: silentLogger(),
    });
  }

  get key(): string {
    return this.identity.publicKey;
  }

  declare() {
    return this.client.request("declare", this.declaration);
  }

  /** Declares something else than before. */
  async redeclare(changes: Partial<Declaration>) {
    Object.assign(this.declaration, changes);
    this.declared = await this.declare();
    return this.declared;
  }

  subscribe(
    service: string,
    user: string,
    options: { subscription?: string; waitMs?: number; plain?: boolean; id?: string; timeoutMs?: number } = {},
  ) {
    const { id, timeoutMs, subscription = newSubscription(), ...rest } = options;
    return this.client.request(
      "subscribe",
      { subscription, service, user, handshake: "aGVsbG8", ...rest },
      { ...(id === undefined ? {} : { id }), ...(timeoutMs === undefined ? {} : { timeoutMs }) },
    );
  }
}

export function newSubscription(): string {
  return randomBytes(16).toString("base64url");
}

/** A daemon that is logged in and has declared itself. It is stopped when the test has finished. */
export async function startDaemon(server: ServerAddress, options: DaemonOptions = {}): Promise<TestDaemon> {
  const daemon = new TestDaemon(server, options);
  onTestFinished(() => daemon.client.stop());
  daemon.client.start();
  await daemon.client.whenUp(AbortSignal.timeout(10_000));
  return daemon;
}

const WAIT = { timeout: 10_000, interval: 5 };
const LET_IN = new IsthmusError("internal", "it was let in");

/** Why a daemon does not get in. */
export async function refusal(server: ServerAddress, options: DaemonOptions = {}): Promise<IsthmusError> {
  const daemon = new TestDaemon(server, options);
  onTestFinished(() => daemon.client.stop());
  daemon.client.start();
  try {
    return await vi.waitUntil(() => daemon.client.lastError ?? (daemon.client.state === "up" && LET_IN), WAIT);
  } finally {
    await daemon.client.stop();
  }
}

/** One channel is enough for whoever tests the broker. */
export function service(name: string, changes: Partial<Service> = {}): Service {
  return { name, channels: [{ id: "main", proto: "tcp" }], allow: { anyone: true }, ...changes };
}

export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "no error";
  } catch (error) {
    if (error instanceof IsthmusError) return error.code;
    throw error;
  }
}

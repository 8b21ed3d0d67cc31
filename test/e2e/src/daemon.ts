import { join } from "node:path";
import { type CommandResult, type Node, ORDINARY_UID } from "@isthmus/lab";
import type { LocalApiReply } from "@isthmus/protocol";
import { AppProcess } from "./app-process.ts";
import { appProgram, NODE } from "./programs.ts";
import { until } from "./until.ts";

export type Status = LocalApiReply<"status">;
export type Subscription = Status["subscriptions"][number];

export interface DaemonOptions {
  user: string;
  /** Name of the device; the node's name otherwise. */
  device?: string;
  /** The ordinary user otherwise. */
  uid?: number;
  /** Further flags of `isthmus-daemon`. */
  flags?: string[];
  env?: NodeJS.ProcessEnv;
  /** A command that runs the daemon: what it is called with comes behind. */
  under?: string[];
}

/** One user's daemon on a node of the laboratory, without any privilege, and its command line. */
export class Daemon extends AppProcess {
  readonly user: string;
  readonly device: string;
  readonly folder: string;
  readonly socket: string;
  readonly #uid: number;
  readonly #flags: string[];
  readonly #env: NodeJS.ProcessEnv;
  readonly #under: string[];

  constructor(node: Node, options: DaemonOptions) {
    super(node, `daemon of ${options.user}`);
    this.user = options.user;
    this.device = options.device ?? node.name;
    this.folder = join(node.folder, `daemon-${options.user}`);
    this.socket = join(this.folder, "run", "s");
    this.#uid = options.uid ?? ORDINARY_UID;
    this.#flags = options.flags ?? [];
    this.#env = options.env ?? {};
    this.#under = options.under ?? [];
  }

  /** Starts the process; its state is that of the last time. */
  async start(): Promise<this> {
    const args = ["--state", this.folder, "--socket", this.socket, ...this.#flags];
    await this.launch("daemon", args, { uid: this.#uid, env: this.#env }, this.#under);
    return this;
  }

  /** Runs `isthmus ARGS` as the daemon's user; any exit status is a result. */
  run(args: string[], options: { timeoutMs?: number } = {}): Promise<CommandResult> {
    return this.node.run(NODE, [appProgram("cli"), "--socket", this.socket, ...args], {
      uid: this.#uid,
      timeoutMs: options.timeoutMs ?? 30_000,
    });
  }

  /** Runs `isthmus --json ARGS`. @throws Error with what it wrote unless its status is 0 */
  async json<T>(args: string[], options: { timeoutMs?: number } = {}): Promise<T> {
    const { code, stdout, stderr } = await this.run(["--json", ...args], options);
    if (code !== 0) throw new Error(`isthmus ${args.join(" ")} ended with ${code}: ${stderr}${stdout}`);
    return JSON.parse(stdout) as T;
  }

  login(invite: string): Promise<{ user: string; device: string; isb: string }> {
    return this.json(["login", invite, "--device", this.device]);
  }

  provide(name: string, ...flags: string[]): Promise<Status["services"][number]> {
    return this.json(["provide", name, ...flags]);
  }

  subscribe(service: string, ...flags: string[]): Promise<Subscription> {
    return this.json(["subscribe", service, ...flags]);
  }

  status(): Promise<Status> {
    return this.json(["status"]);
  }

  /** Waits until the daemon's status is as wanted. */
  statusWhen(what: string, isGood: (status: Status) => boolean, timeoutMs = 40_000): Promise<Status> {
    return until(
      what,
      async () => {
        const status = await this.status();
        return isGood(status) ? status : undefined;
      },
      timeoutMs,
    );
  }

  /** A counter of the daemon, 0 when it has not counted yet. `name{label="value"}` exactly as it is scraped. */
  async metric(sample: string): Promise<number> {
    const text = await this.node.read("curl", ["-sS", "--unix-socket", this.socket, "http://localhost/metrics"]);
    return readSample(text, sample);
  }
}

/** One sample out of a Prometheus page. */
export function readSample(page: string, sample: string): number {
  const line = page.split("\n").find((candidate) => candidate.startsWith(`${sample} `));
  return line === undefined ? 0 : Number(line.slice(sample.length + 1));
}

/** Port of the local address of one channel of a subscription. */
export function portOf(subscription: Subscription, proto: "tcp" | "udp" = "tcp"): number {
  const address = subscription.listen.find((listener) => listener.proto === proto)?.address;
  if (address === undefined) throw new Error(`${subscription.service} has no ${proto} listener`);
  return Number(address.slice(address.lastIndexOf(":") + 1));
}

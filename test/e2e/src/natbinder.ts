import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { type CommandResult, type Node, ORDINARY_UID, type Program } from "@isthmus/lab";
import type { NatbinderExplanation, NatbinderStatus } from "@isthmus/protocol";
import { AppProcess } from "./app-process.ts";
import { appProgram, NODE, START_TIMEOUT_MS } from "./programs.ts";
import { until } from "./until.ts";

const LAUNCHER = resolve(import.meta.dirname, "../../../apps/natbinder/bin/natbinder");

export interface NatbinderOptions {
  /** Further settings, as the environment carries them. */
  env?: NodeJS.ProcessEnv;
  /** All programs of the host are covered, without `natbinder run`. */
  systemWide?: "module" | "cgroup";
  /** The user that it runs as. @default root where the way in needs it, else an ordinary one */
  uid?: number | undefined;
  /** Its folder; one of the node's own otherwise. */
  state?: string;
}

/** One host's natbinder, and programs that it serves. */
export class Natbinder extends AppProcess {
  readonly socket: string;
  readonly adminSocket: string;
  readonly state: string;
  readonly #systemWide: NatbinderOptions["systemWide"];
  readonly #uid: number | undefined;
  readonly #env: NodeJS.ProcessEnv;

  constructor(node: Node, options: NatbinderOptions = {}) {
    super(node, "natbinder");
    const { env = {}, state = join(node.folder, "natbinder"), systemWide } = options;
    if (!existsSync(LAUNCHER)) throw new Error(`${LAUNCHER} is missing`);
    this.socket = join(`${state}-run`, "ask.sock");
    this.adminSocket = join(`${state}-run`, "admin.sock");
    this.state = state;
    this.#systemWide = systemWide;
    this.#uid = options.uid ?? (systemWide ? undefined : ORDINARY_UID);
    this.#env = systemWide ? { ...env, ISTHMUS_NATBINDER_SYSTEM_WIDE: systemWide } : env;
  }

  /** Starts the process, and waits until it has found a gateway unless told otherwise. */
  async start({ awaitGateway = true } = {}): Promise<this> {
    const args = ["--state", this.state, "--socket", this.socket, "--admin-socket", this.adminSocket];
    await this.launch("natbinder", args, { uid: this.#uid, env: this.#env });
    const timeoutMs = START_TIMEOUT_MS * this.node.slowness;
    if (awaitGateway) await this.program.waitForOutput(/"event":"found"/, timeoutMs);
    return this;
  }

  /** What stands before a command that `natbinder run` runs. */
  get runCommand(): string[] {
    return ["sh", LAUNCHER, "run", "--socket", this.socket, "--"];
  }

  /** Arguments of `sh` before the socket at which runtimes of containers ask. */
  get containersCommand(): string[] {
    return [LAUNCHER, "containers", "--socket", this.socket];
  }

  /** A program of an ordinary user whose binds natbinder sees: under `natbinder run`, unless it sees those of all. */
  run(command: string, args: string[] = [], options: { env?: NodeJS.ProcessEnv; ends?: boolean } = {}): Program {
    const [file = "", ...rest] = [...(this.#systemWide ? [] : this.runCommand), command, ...args];
    return this.node.spawn(file, rest, {
      uid: ORDINARY_UID,
      stdin: "pipe",
      ...options,
      env: { ...this.#env, ...options.env },
    });
  }

  /** Runs `isthmus natbinder ARGS`; any exit status is a result. */
  cli(args: string[]): Promise<CommandResult> {
    return this.node.run(NODE, [appProgram("cli"), "--json", "natbinder", ...args], {
      uid: ORDINARY_UID,
      timeoutMs: 30_000,
      env: { ISTHMUS_NATBINDER_ADMIN_SOCKET: this.adminSocket },
    });
  }

  status(): Promise<NatbinderStatus> {
    return this.#ask("GET", "/v1/status");
  }

  explain(protocol: "tcp" | "udp", port: number): Promise<NatbinderExplanation> {
    return this.#ask("POST", "/v1/explain", { protocol, port });
  }

  /** Waits until it knows of so many ports that are other hosts'. */
  async knowsOthers(count: number): Promise<void> {
    const line = `isthmus_natbinder_ports_of_others ${count}`;
    await until(`${count} ports of other hosts`, async () => {
      return (await this.metrics()).split("\n").includes(line) || undefined;
    });
  }

  /** A page with its metrics. */
  metrics(): Promise<string> {
    return this.node.read("curl", ["-sS", "--unix-socket", this.adminSocket, "http://n/metrics"]);
  }

  async #ask<T>(method: string, path: string, body?: object): Promise<T> {
    const data = body ? ["-H", "content-type: application/json", "-d", JSON.stringify(body)] : [];
    const args = ["-sS", "-f", "-X", method, "--unix-socket", this.adminSocket, ...data, `http://n${path}`];
    return JSON.parse(await this.node.read("curl", args)) as T;
  }

  /** Waits until the ports that are mapped, or may be still, are these: `tcp 10000`. */
  async portsAre(wanted: readonly string[], timeoutMs = 10_000): Promise<void> {
    let last: NatbinderStatus["ports"] = [];
    await until(
      `mapped: ${wanted.join(", ")}`,
      async () => {
        last = (await this.status()).ports;
        const mapped = last
          .filter(({ state }) => state === "mapped" || state === "leaving")
          .map(({ protocol, port }) => `${protocol} ${port}`);
        return mapped.sort().join() === [...wanted].sort().join() || undefined;
      },
      timeoutMs * this.node.slowness,
    ).catch((error: Error) => {
      throw new Error(`${error.message}; they are: ${JSON.stringify(last)}`);
    });
  }
}

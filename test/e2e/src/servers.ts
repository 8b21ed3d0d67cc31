import { join } from "node:path";
import type { Node } from "@isthmus/lab";
import { AppProcess } from "./app-process.ts";
import { readSample } from "./daemon.ts";
import { appProgram, NODE, START_TIMEOUT_MS } from "./programs.ts";
import { until } from "./until.ts";

/** A process of an operator: ISB or IST, with its admin address inside the node. */
abstract class Server extends AppProcess {
  protected readonly flags: string[];
  /** Of the next start. */
  protected env: NodeJS.ProcessEnv;
  protected readonly app: "isb" | "ist";

  protected constructor(app: "isb" | "ist", node: Node, flags: string[], env: NodeJS.ProcessEnv) {
    super(node, app);
    this.app = app;
    this.flags = flags;
    this.env = env;
  }

  protected abstract readonly adminPort: number;
  abstract readonly folder: string;

  async start(): Promise<this> {
    await this.launch(this.app, ["--data", this.folder, ...this.flags], { env: this.env });
    return this;
  }

  async metrics(): Promise<string> {
    return this.node.read("curl", ["-sS", `http://127.0.0.1:${this.adminPort}/metrics`]);
  }

  /** One sample, `name{label="value"}` exactly as it is scraped; 0 when it is not there. */
  async metric(sample: string): Promise<number> {
    return readSample(await this.metrics(), sample);
  }

  async ready(timeoutMs = 40_000): Promise<void> {
    await until(
      `the ${this.app} on ${this.node.name} is ready`,
      async () => {
        const { code } = await this.node.run("curl", ["-sSf", `http://127.0.0.1:${this.adminPort}/readyz`]);
        return code === 0 ? true : undefined;
      },
      timeoutMs,
    );
  }
}

/** The broker of a deployment. */
export class Isb extends Server {
  protected override readonly adminPort = 9443;
  override readonly folder: string;

  constructor(node: Node, flags: string[] = [], env: NodeJS.ProcessEnv = {}) {
    super("isb", node, flags, env);
    this.folder = join(node.folder, "isb");
  }

  async invite(user: string, ...flags: string[]): Promise<string> {
    return this.#make(["invite", user, ...flags]);
  }

  async inviteIst(): Promise<string> {
    return this.#make(["invite-ist"]);
  }

  async #make(args: string[]): Promise<string> {
    const command = [appProgram("isb"), "--data", this.folder, ...args, "--json"];
    const text = await this.node.read(NODE, command, { timeoutMs: START_TIMEOUT_MS });
    return (JSON.parse(text) as { invite: string }).invite;
  }

  /** Calls the admin API. */
  async admin<T>(method: string, path: string, body?: object): Promise<T> {
    const token = (await this.node.read("cat", [join(this.folder, "admin-token")])).trim();
    const data = body === undefined ? [] : ["-H", "content-type: application/json", "-d", JSON.stringify(body)];
    const text = await this.node.read("curl", [
      ...["-sS", "-X", method, "-H", `authorization: Bearer ${token}`, ...data],
      `http://127.0.0.1:${this.adminPort}${path}`,
    ]);
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }
}

/** A relay of a deployment. */
export class Ist extends Server {
  protected override readonly adminPort = 9444;
  override readonly folder: string;

  constructor(node: Node, flags: string[] = [], env: NodeJS.ProcessEnv = {}) {
    super("ist", node, ["--name", node.name, ...flags], env);
    this.folder = join(node.folder, "ist");
  }

  /** Takes the invite of an ISB; to be called before the start. */
  async join(invite: string): Promise<void> {
    if (this.node.slowness > 1) {
      // Each start of Node is dear there: the IST takes the invite from its configuration.
      this.env = { ...this.env, ISTHMUS_IST_REGISTRATION: invite };
      return;
    }
    const command = [appProgram("ist"), "--data", this.folder, "join", invite];
    await this.node.read(NODE, command, { timeoutMs: START_TIMEOUT_MS });
  }

  /** How it is, in the words of `isthmus-ist status`. */
  async status(): Promise<string> {
    return this.node.read(NODE, [appProgram("ist"), "status"], { timeoutMs: START_TIMEOUT_MS });
  }
}

import type { Node, Program, SpawnOptions } from "@isthmus/lab";
import { type App, appProgram, NODE, START_TIMEOUT_MS } from "./programs.ts";

/** An app on a node of the laboratory: it may be started again, and its state is that of the last time. */
export abstract class AppProcess {
  readonly node: Node;
  readonly #name: string;
  #program: Program | undefined;

  /** @param name for messages */
  protected constructor(node: Node, name: string) {
    this.node = node;
    this.#name = name;
  }

  get program(): Program {
    if (!this.#program) throw new Error(`${this.#name} on ${this.node.name} was not started`);
    return this.#program;
  }

  /**
   * Starts the process, and waits until it says that it is ready.
   * @param under a command that runs it: what it is called with comes behind
   */
  protected async launch(app: App, args: string[], options: SpawnOptions, under: string[] = []): Promise<void> {
    const [file = NODE, ...rest] = [...under, NODE, appProgram(app), ...args];
    this.#program = this.node.spawn(file, rest, { name: this.#name, ...options });
    await this.#program.waitForOutput(/"msg":"ready"/, START_TIMEOUT_MS * this.node.slowness);
  }

  async stop(): Promise<void> {
    await this.program.stop();
  }

  async kill(): Promise<void> {
    this.program.kill("SIGKILL");
    await this.program.exited;
  }
}

import { extname, join } from "node:path";
import { NODE } from "@isthmus/e2e";
import type { Node, Program } from "@isthmus/lab";
import type { Answer, Order } from "./commands.ts";

const TIMEOUT_MS = 30_000;

/** A load generator of this folder that runs on a node of the laboratory. */
export class Worker {
  readonly program: Program;
  #orders = 0;

  private constructor(program: Program) {
    this.program = program;
  }

  /** @param name the generator's file, without its ending */
  static async start(node: Node, name: string): Promise<Worker> {
    const file = join(import.meta.dirname, name + extname(import.meta.filename));
    // The source runs with the conditions under which this process found it.
    const program = node.spawn(NODE, [...process.execArgv, file], { name, stdin: "pipe" });
    await program.waitForOutput(/^ready$/m, TIMEOUT_MS);
    return new Worker(program);
  }

  /** @throws Error what went wrong there, or LabError when it does not answer */
  async call<T>(command: string, argument: object = {}, timeoutMs = TIMEOUT_MS): Promise<T> {
    const id = ++this.#orders;
    const order: Order = { id, command, argument };
    const from = this.program.output.position;
    this.program.stdin.write(`${JSON.stringify(order)}\n`);
    const [line] = await this.program.waitForOutput(new RegExp(`^\\{"id":${id},.*\\}$`, "m"), timeoutMs, from);
    const answer = JSON.parse(line) as Answer;
    if ("error" in answer) throw new Error(`${this.program.name}: ${command}: ${answer.error}`);
    return answer.result as T;
  }

  stop(): Promise<void> {
    return this.program.destroy();
  }
}

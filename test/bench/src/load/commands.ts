import { createInterface } from "node:readline";

/** What a load generator can be told to do; each command is answered with what its function returns. */
export type Commands = Record<string, (argument: never) => unknown>;

/** One line on standard input. */
export interface Order {
  id: number;
  command: string;
  argument: unknown;
}

/** One line on standard output. */
export type Answer = { id: number; result: unknown } | { id: number; error: string };

/** Carries out orders from standard input, one after the other, until it ends. */
export async function serveCommands(commands: Commands): Promise<void> {
  process.stdout.write("ready\n");
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, command, argument } = JSON.parse(line) as Order;
    let answer: Answer;
    try {
      answer = { id, result: (await commands[command]!(argument as never)) ?? null };
    } catch (error) {
      answer = { id, error: (error as Error).message };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}

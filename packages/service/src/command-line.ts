import { type Command, CommanderError } from "commander";
import { ConfigError } from "./config.ts";

const STATUS = { failure: 1, usage: 2 };

/**
 * Does what a server's command line asks for. What fails is said in a line, and ends the process: with status 2 where the
 * command line or the configuration cannot be used, with 1 otherwise.
 * @param program that was told to throw instead of to exit, before its commands were added
 */
export async function runCommandLine(program: Command): Promise<void> {
  try {
    await program.parseAsync();
  } catch (error) {
    // Commander has said it already.
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : STATUS.usage;
    else {
      process.stderr.write(`${program.name()}: ${(error as Error).message}\n`);
      process.exit(error instanceof ConfigError ? STATUS.usage : STATUS.failure);
    }
  }
}

import { existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { commandOutput } from "./command.ts";

const SOURCE = join(import.meta.dirname, "../native/delay.c");
const BUILD_FOLDER = join(import.meta.dirname, "../build");
const PROGRAM = join(BUILD_FOLDER, "delay");
const COMPILE_TIMEOUT_MS = 60_000;

let built: Promise<string> | undefined;

/** The compiled `native/delay.c`, made now if it is missing or older than its source. */
export function delayProgram(): Promise<string> {
  built ??= compile();
  return built;
}

async function compile(): Promise<string> {
  if (existsSync(PROGRAM) && statSync(PROGRAM).mtimeMs >= statSync(SOURCE).mtimeMs) return PROGRAM;
  mkdirSync(BUILD_FOLDER, { recursive: true });
  // Two processes may compile at once: each puts a whole program in place.
  const mine = `${PROGRAM}.${process.pid}`;
  const args = ["-O2", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-o", mine, SOURCE];
  await commandOutput("gcc", args, { timeoutMs: COMPILE_TIMEOUT_MS });
  renameSync(mine, PROGRAM);
  return PROGRAM;
}

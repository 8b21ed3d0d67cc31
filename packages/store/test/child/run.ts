import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

type Child = ChildProcessByStdio<null, Readable, null>;

/** Runs one of the programs beside this file on the same Node, from its sources. `within` is a command to run it by. */
export function runChild(name: string, args: string[], within: string[] = [], env: NodeJS.ProcessEnv = {}): Child {
  const program = fileURLToPath(new URL(name, import.meta.url));
  const [command, ...rest] = [...within, process.execPath, "--conditions=source", program, ...args];
  return spawn(command!, rest, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...env } });
}

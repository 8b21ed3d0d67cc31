import { spawn } from "node:child_process";
import { constants } from "node:os";
import { LabError } from "./lab-error.ts";
import { searchPath } from "./tools.ts";

/** How a command ended. */
export interface CommandResult {
  stdout: string;
  stderr: string;
  /** The exit status; 128 and the signal's number where a signal ended it, as in a shell. */
  code: number;
}

export interface CommandOptions {
  cwd?: string;
  /** The whole environment. */
  env?: NodeJS.ProcessEnv;
  input?: string | Uint8Array;
  /** After this the command and its children are killed. */
  timeoutMs?: number;
}

const TIMEOUT_MS = 40_000;

/** Runs a command to its end. @throws LabError when it cannot start or takes too long; a status is no error here. */
export function runCommand(file: string, args: string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { timeoutMs = TIMEOUT_MS } = options;
  const shown = [file, ...args].join(" ");
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd: options.cwd,
      env: options.env ?? { ...process.env, PATH: searchPath() },
      stdio: "pipe",
      detached: true,
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      killGroup(child.pid);
    }, timeoutMs);
    child.on("error", (cause) => {
      clearTimeout(timer);
      reject(new LabError(`cannot run ${shown}: ${cause.message}`, { cause }));
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      if (late) reject(new LabError(`took more than ${timeoutMs} ms: ${shown}\n${stdout}${stderr}`));
      else resolve({ stdout, stderr, code: statusOf(code, signal) });
    });
    // A command that does not read its input to the end is no failure of ours.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input);
  });
}

/** The output of a command that has to work. @throws LabError unless its status is 0 */
export async function commandOutput(file: string, args: string[], options: CommandOptions = {}): Promise<string> {
  return requireSuccess([file, ...args], options.input, await runCommand(file, args, options));
}

/** The output of a command that has ended. @throws LabError unless its status is 0 */
export function requireSuccess(command: string[], input: CommandOptions["input"], result: CommandResult): string {
  const { stdout, stderr, code } = result;
  if (code === 0) return stdout;
  const given = input === undefined ? "" : `\n${String(input)}`;
  throw new LabError(`status ${code}: ${command.join(" ")}${given}\n${stdout}${stderr}`);
}

/** Kills a process that was started as the leader of its group, and the group. */
export function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function statusOf(code: number | null, signal: NodeJS.Signals | null): number {
  return signal === null ? (code ?? 1) : 128 + constants.signals[signal];
}

/**
 * `node enter.ts COMMAND ARGUMENTS`: runs a command in a private world of network, mount and process namespaces.
 * Nothing in it has a way to the machine's own network, two worlds do not see each other, and all of it (processes,
 * namespaces, links) ends with the command, with this process or with whoever started it, however they end.
 * The exit status is the command's own, or 128 and the signal that ended it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { resolve } from "node:path";
import { LabError } from "./lab-error.ts";
import { checkTools, findTool, searchPath } from "./tools.ts";
import { UNSHARE, WORLD_SCRIPT } from "./world.ts";

/** Names the parent that this process dies with: set once the kernel has been told. */
const PARENT = "ISTHMUS_LAB_PARENT";

/** The terminal sends these to the command by itself. */
const TERMINAL_SIGNALS: NodeJS.Signals[] = ["SIGINT", "SIGQUIT", "SIGHUP"];

const EXIT_USAGE = 2;

const CHECKOUT = resolve(import.meta.dirname, "../../..");

function main(): void {
  const command = process.argv.slice(2);
  if (command.length === 0) fail("usage: node enter.ts COMMAND ARGUMENTS", EXIT_USAGE);
  if (process.getuid?.() !== 0) {
    fail("network namespaces need root (CAP_SYS_ADMIN and CAP_NET_ADMIN): run this as root or with sudo");
  }
  try {
    checkTools();
    dieWithParent();
    enter(command);
  } catch (error) {
    if (error instanceof LabError) fail(error.message);
    throw error;
  }
}

function fail(message: string, status = 1): never {
  process.stderr.write(`isthmus-lab: ${message}\n`);
  process.exit(status);
}

/** Node cannot ask the kernel for a death signal, so this process becomes itself once more by way of `setpriv`. */
function dieWithParent(): void {
  const known = process.env[PARENT];
  if (known === undefined) {
    const again = ["setpriv", "--pdeathsig", "KILL", process.execPath, ...process.execArgv, ...process.argv.slice(1)];
    process.execve?.(findTool("setpriv"), again, { ...process.env, [PARENT]: String(process.ppid) });
    fail("this needs Node 24 (process.execve)");
  }
  delete process.env[PARENT];
  if (process.ppid !== Number(known)) fail("the parent is gone");
}

function enter(command: string[]): void {
  const terminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  const world = spawn(
    findTool("setpriv"),
    ["--pdeathsig", "KILL", "unshare", ...UNSHARE, "--", "sh", "-c", WORLD_SCRIPT, "isthmus-lab", CHECKOUT, ...command],
    {
      stdio: "inherit",
      env: { ...process.env, PATH: searchPath() },
      // Without a terminal a session of its own, so that a signal to our group reaches the command once, through us.
      detached: !terminal,
    },
  );
  for (const signal of TERMINAL_SIGNALS) process.on(signal, () => terminal || forward(world, signal));
  process.on("SIGTERM", () => forward(world, "SIGTERM"));
  world.on("exit", (code, signal) => {
    process.exit(signal ? 128 + constants.signals[signal] : (code ?? 1));
  });
}

/** The command is the first child of the world's init, which is the child of `unshare`. */
function forward(world: ChildProcess, signal: NodeJS.Signals): void {
  const init = firstChild(world.pid);
  const command = firstChild(init);
  try {
    if (command !== undefined) process.kill(command, signal);
    else world.kill("SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function firstChild(pid: number | undefined): number | undefined {
  if (pid === undefined) return undefined;
  try {
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
    return child ? Number(child) : undefined;
  } catch {
    return undefined;
  }
}

main();

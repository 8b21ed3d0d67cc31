import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const CHECKOUT = resolve(import.meta.dirname, "../../..");
/** Compiled code of earlier starts, which would take half of each one's time. */
const COMPILE_CACHE = join(CHECKOUT, "node_modules", ".cache", "isthmus-tests");
const DEADLINE_MS = 60_000;

/** Why programs cannot be run as other users, where they cannot. */
export const cannotChangeUser: string | undefined =
  process.geteuid?.() === 0 ? undefined : "only root may run programs as other users";

export interface ProgramOptions {
  /** The whole environment: nothing of the surroundings is in it. */
  env: NodeJS.ProcessEnv;
  /** Another user, without any privilege; see {@link cannotChangeUser}. */
  uid?: number;
}

export interface ProgramResult {
  /** -1 when a signal ended it. */
  status: number;
  stdout: string;
  stderr: string;
}

/**
 * A checkout may lie where nobody but root may look, so another user finds it at /mnt, in a mount namespace of the
 * program's own.
 */
const AS_USER =
  'mount --bind "$1" /mnt; uid=$2; shift 2; exec setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"';

function start(main: string, args: string[], { env, uid }: ProgramOptions): ChildProcess {
  const command = [process.execPath, "--conditions=source", main, ...args];
  const moved = command.map((part) => (part.startsWith(`${CHECKOUT}/`) ? `/mnt${part.slice(CHECKOUT.length)}` : part));
  const asUser = ["unshare", "--mount", "sh", "-ec", AS_USER, "sh", CHECKOUT, String(uid), ...moved];
  const [file, ...rest] = uid === undefined ? command : asUser;
  const all = { PATH: process.env.PATH, NODE_COMPILE_CACHE: COMPILE_CACHE, ...env };
  return spawn(file!, rest, { env: all, stdio: ["ignore", "pipe", "pipe"] });
}

/** Runs a program of this checkout to its end. @param main its TypeScript */
export async function runProgram(main: string, args: string[], options: ProgramOptions): Promise<ProgramResult> {
  const child = start(main, args, options);
  const result = { stdout: "", stderr: "" };
  child.stdout!.on("data", (text: Buffer) => (result.stdout += text.toString()));
  child.stderr!.on("data", (text: Buffer) => (result.stderr += text.toString()));
  const late = setTimeout(() => child.kill("SIGKILL"), DEADLINE_MS);
  const [status] = (await once(child, "close")) as [number | null];
  clearTimeout(late);
  return { status: status ?? -1, ...result };
}

/** A program of this checkout that logs a JSON object a line. */
export class RunningProgram {
  readonly child: ChildProcess;
  readonly log: Record<string, unknown>[] = [];
  stderr = "";
  readonly #exited: Promise<number | null>;
  #changed = Promise.withResolvers<void>();

  /** Starts it. @param main its TypeScript */
  constructor(main: string, args: string[], options: ProgramOptions) {
    this.child = start(main, args, options);
    createInterface(this.child.stdout!).on("line", (line) => {
      this.log.push(JSON.parse(line) as Record<string, unknown>);
      this.#change();
    });
    this.child.stderr!.on("data", (text: Buffer) => (this.stderr += text.toString()));
    this.#exited = once(this.child, "close").then(([status]) => {
      this.#change();
      return status as number | null;
    });
  }

  /** A line of its log, that was there or comes. @throws Error when the program ends without it, or is late */
  async logged(message: string): Promise<Record<string, unknown>> {
    const late = AbortSignal.timeout(DEADLINE_MS);
    const isLate = new Promise<void>((done) => late.addEventListener("abort", () => done(), { once: true }));
    for (;;) {
      const changed = this.#changed.promise;
      const line = this.log.find(({ msg }) => String(msg).includes(message));
      if (line) return line;
      if (this.hasEnded || late.aborted) {
        throw new Error(`'${message}' was not logged: ${this.stderr}${JSON.stringify(this.log)}`);
      }
      await Promise.race([changed, isLate]);
    }
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** @returns the exit status; nothing when a signal ended it */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<number | undefined> {
    this.child.kill(signal);
    return (await this.#exited) ?? undefined;
  }

  #change(): void {
    const { resolve: tell } = this.#changed;
    this.#changed = Promise.withResolvers();
    tell();
  }
}

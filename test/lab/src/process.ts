import { type ChildProcess, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { killGroup } from "./command.ts";
import { LabError } from "./lab-error.ts";
import { type Resources, readResources } from "./resources.ts";

/** How a program ended: one of the two is set. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** A process of this host, or of another machine that a laboratory runs. */
export interface Process {
  /** On its own machine; absent when it did not start. */
  readonly pid: number | undefined;
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  /** Settles when it has ended and all it wrote has been read; rejects when it could not start. */
  readonly exited: Promise<Exit>;
  /** Signals the process itself. */
  kill(signal: NodeJS.Signals): void;
  /** Kills it and all that it started. */
  killAll(): void;
  /** @throws when it is gone */
  resources(): Resources;
}

interface LaunchOptions {
  cwd?: string | undefined;
  env: NodeJS.ProcessEnv;
  stdin?: "pipe" | undefined;
}

/** A process of this host, the leader of a group of its own, so that what it starts can be killed with it. */
export class HostProcess implements Process {
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;

  constructor(file: string, args: string[], { cwd, env, stdin }: LaunchOptions) {
    this.#child = spawn(file, args, { cwd, env, stdio: [stdin ?? "ignore", "pipe", "pipe"], detached: true });
    this.exited = new Promise((resolve, reject) => {
      this.#child.on("error", reject);
      this.#child.on("close", (code, signal) => resolve({ code, signal }));
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get stdin(): Writable | null {
    return this.#child.stdin;
  }

  get stdout(): Readable | null {
    return this.#child.stdout;
  }

  get stderr(): Readable | null {
    return this.#child.stderr;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  killAll(): void {
    killGroup(this.pid);
  }

  resources(): Resources {
    if (this.pid === undefined) throw new LabError("a process that did not start uses nothing");
    return readResources(this.pid);
  }
}

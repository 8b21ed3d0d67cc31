import type { Readable, Writable } from "node:stream";
import { LabError } from "./lab-error.ts";
import { Output } from "./output.ts";
import { type Exit, HostProcess, type Process } from "./process.ts";
import type { Resources } from "./resources.ts";

interface ProgramOptions {
  /** For people, in errors: `isthmus-daemon on alice`. */
  name: string;
  /** The program may end by itself; otherwise that is an error when the lab is destroyed. */
  ends?: boolean | undefined;
}

interface LaunchOptions extends ProgramOptions {
  cwd?: string;
  env: NodeJS.ProcessEnv;
  /** `pipe` to write to the program; it reads nothing otherwise. */
  stdin?: "pipe";
}

/** What a shell says of a command that it cannot run. */
const NOT_STARTED = 127;

/** On a busy machine a program may take its time to start; whoever means a deadline gives one. */
const TIMEOUT_MS = 40_000;

/** A program that runs for some time, with all it wrote. */
export class Program {
  readonly name: string;
  /** Settles when the program has ended and all it wrote has been read; never rejects. */
  readonly exited: Promise<Exit>;
  readonly stdout = new Output();
  readonly stderr = new Output();
  /** Both, in the order they came. */
  readonly output = new Output();
  readonly #process: Process;
  readonly #listeners = new Set<() => void>();
  #exit: Exit | undefined;
  #endWanted: boolean;

  constructor(process: Process, options: ProgramOptions) {
    this.name = options.name;
    this.#endWanted = options.ends ?? false;
    this.#process = process;
    this.#collect(process.stdout, this.stdout);
    this.#collect(process.stderr, this.stderr);
    this.exited = process.exited
      .catch((error: Error): Exit => {
        this.output.append(`${error.message}\n`);
        return { code: NOT_STARTED, signal: null };
      })
      .then((exit) => {
        this.#exit = exit;
        this.#tellListeners();
        return exit;
      });
  }

  /** Starts a program on this host. */
  static start(file: string, args: string[], { name, ends, ...launch }: LaunchOptions): Program {
    return new Program(new HostProcess(file, args, launch), { name, ends });
  }

  /** @throws LabError when the program could not be started */
  get pid(): number {
    if (this.#process.pid === undefined) throw new LabError(`${this.name} did not start`);
    return this.#process.pid;
  }

  get running(): boolean {
    return this.#exit === undefined;
  }

  /** The program's standard input, if it was asked for. */
  get stdin(): Writable {
    if (this.#process.stdin === null) throw new LabError(`${this.name} was started without a standard input`);
    return this.#process.stdin;
  }

  /**
   * The first match in the program's output from position `from` on (0 is the start; `output.position` is now),
   * already written or still to come.
   * @throws LabError with the last lines when the program ends first or `timeoutMs` pass
   */
  waitForOutput(pattern: RegExp, timeoutMs = TIMEOUT_MS, from = 0): Promise<RegExpExecArray> {
    const search = new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ""));
    return new Promise((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        act();
      };
      const look = () => {
        const match = search.exec(this.output.since(from));
        if (match) settle(() => resolve(match));
        else if (this.#exit) settle(() => reject(this.#failure(`${this.#ending()} before it wrote ${pattern}`)));
      };
      const timer = setTimeout(() => {
        settle(() => reject(this.#failure(`did not write ${pattern} within ${timeoutMs} ms`)));
      }, timeoutMs);
      this.#listeners.add(look);
      look();
    });
  }

  /** Signals the program itself, not what it started. An end after this is expected. */
  kill(signal: NodeJS.Signals = "SIGTERM"): void {
    this.#endWanted = true;
    this.#process.kill(signal);
  }

  /** Signals the program and waits for its end. @throws LabError after killing it when it does not end in time */
  async stop(signal: NodeJS.Signals = "SIGTERM", timeoutMs = TIMEOUT_MS): Promise<Exit> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#process.killAll();
    }, timeoutMs);
    this.kill(signal);
    const exit = await this.exited;
    clearTimeout(timer);
    if (late) throw this.#failure(`did not end within ${timeoutMs} ms of ${signal}`);
    return exit;
  }

  /** Kills the program and all it started, and waits for the end. */
  async destroy(): Promise<void> {
    if (this.#exit) return;
    this.#endWanted = true;
    this.#process.killAll();
    await this.exited;
  }

  /** @throws when the program is gone */
  resources(): Resources {
    return this.#process.resources();
  }

  /** Why the program's end deserves attention: it ended by itself and nobody wanted it. */
  get unexpectedEnd(): LabError | undefined {
    return this.#exit && !this.#endWanted ? this.#failure(this.#ending()) : undefined;
  }

  #collect(stream: Readable | null, into: Output): void {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      into.append(text);
      this.output.append(text);
      this.#tellListeners();
    });
  }

  #tellListeners(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  #ending(): string {
    const { code, signal } = this.#exit ?? {};
    return signal ? `was ended by ${signal}` : `ended with status ${code}`;
  }

  #failure(what: string): LabError {
    return new LabError(`${this.name} ${what}. Its last lines:\n${this.output.lastLines()}`);
  }
}

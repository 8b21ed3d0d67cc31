import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { type Exit, LabError, type Process } from "@isthmus/lab";
import { quoted } from "./shell.ts";
import type { VirtualMachine } from "./virtual-machine.ts";

/** How often it is looked whether the program has written something. */
const LOOK_MS = 50;
/** A program may run for as long as timers can wait: 24 days. */
const FOREVER_MS = 2 ** 31 - 1;
const CHUNK_BYTES = 64 * 1024;
/** What a shell adds to the number of the signal that ended a program. */
const SIGNALLED = 128;

let count = 0;

/**
 * A process of a virtual machine. What it writes goes to files of the shared folder, which are read here; what it reads
 * comes through a pipe of the machine's.
 */
export class GuestProcess implements Process {
  readonly stdin: Writable | null;
  readonly stdout = new PassThrough();
  readonly stderr = new PassThrough();
  readonly exited: Promise<Exit>;
  readonly #machine: VirtualMachine;
  readonly #pidFile: string;

  /** @param words the program and its arguments */
  constructor(machine: VirtualMachine, words: readonly string[], { stdin }: { stdin?: "pipe" | undefined } = {}) {
    this.#machine = machine;
    const name = `process-${++count}`;
    this.#pidFile = join(machine.share, `${name}.pid`);
    const inGuest = `${machine.guestShare}/${name}`;
    const outputs = [
      new GrowingFile(join(machine.share, `${name}.out`), this.stdout),
      new GrowingFile(join(machine.share, `${name}.err`), this.stderr),
    ];
    const look = () => {
      for (const output of outputs) output.look();
    };
    const timer = setInterval(look, LOOK_MS);
    const pipe = stdin && new GuestPipe(machine, `/tmp/${name}.in`);
    this.stdin = pipe?.input ?? null;
    const script = `
      echo $$ >${inGuest}.pid
      ${pipe?.script ?? ""}
      exec ${quoted(words)} <${pipe?.path ?? "/dev/null"} >${inGuest}.out 2>${inGuest}.err
    `;
    this.exited = machine
      .run(script, FOREVER_MS)
      .then(({ status }) => exitOf(status))
      .finally(() => {
        clearInterval(timer);
        look();
        for (const output of outputs) output.end();
        this.stdin?.destroy();
      });
  }

  /** In the machine; absent until it has started. */
  get pid(): number | undefined {
    const text = existsSync(this.#pidFile) ? readFileSync(this.#pidFile, "utf8") : "";
    return text.endsWith("\n") ? Number(text) : undefined;
  }

  kill(signal: NodeJS.Signals): void {
    const { pid } = this;
    // It may have ended meanwhile, or the machine may have.
    if (pid !== undefined) this.#machine.run(`kill -${signal.slice(3)} ${pid}`).catch(() => undefined);
  }

  /** The process alone: programs of a machine end with the machine. */
  killAll(): void {
    this.kill("SIGKILL");
  }

  resources(): never {
    throw new LabError("what a process of a virtual machine uses is to be read there");
  }
}

function exitOf(status: number): Exit {
  const signal = Object.entries(constants.signals).find(([, number]) => number === status - SIGNALLED);
  return signal ? { code: null, signal: signal[0] as NodeJS.Signals } : { code: status, signal: null };
}

/** A named pipe of a machine. Its other end reads the end when this one is ended or destroyed. */
class GuestPipe {
  readonly path: string;
  readonly input: Writable;

  constructor(machine: VirtualMachine, path: string) {
    this.path = path;
    const close = (done: (error?: Error | null) => void) => {
      machine.run(`kill $(cat ${path}.holder); rm ${path} ${path}.holder`).then(() => done(), done);
    };
    this.input = new Writable({
      decodeStrings: false,
      write: (text: string, _encoding, done) => {
        machine
          .check(`until [ -p ${path} ]; do sleep 0.1; done; printf %s ${quoted([text])} >${path}`)
          .then(() => done(), done);
      },
      final: (done) => close(done),
      destroy: (error, done) => (this.input.writableFinished ? done(error) : close(() => done(error))),
    });
  }

  /** For the shell that becomes the reader: between two writers nobody must find the pipe without one. */
  get script(): string {
    return `mkfifo ${this.path}; sleep ${FOREVER_MS / 1000} >${this.path} & echo $! >${this.path}.holder`;
  }
}

/** Hands on what another machine appends to a file. */
class GrowingFile {
  readonly #path: string;
  readonly #into: PassThrough;
  #read = 0;

  constructor(path: string, into: PassThrough) {
    this.#path = path;
    this.#into = into;
  }

  look(): void {
    if (!existsSync(this.#path)) return;
    const file = openSync(this.#path, "r");
    for (;;) {
      const chunk = Buffer.alloc(CHUNK_BYTES);
      const length = readSync(file, chunk, 0, chunk.length, this.#read);
      if (length === 0) break;
      this.#read += length;
      this.#into.write(chunk.subarray(0, length));
    }
    closeSync(file);
  }

  end(): void {
    this.#into.end();
  }
}

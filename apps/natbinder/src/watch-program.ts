import { type ChildProcess, spawn } from "node:child_process";
import { endianness } from "node:os";
import { fileURLToPath } from "node:url";
import { programName } from "@isthmus/protocol";

const PROGRAM = fileURLToPath(new URL("../build/natbinder-watch", import.meta.url));
const LITTLE_ENDIAN = endianness() === "LE";
const EVENT_BYTES = 40;
const PROGRAM_AT = 24;
const COMMAND_BYTES = 4;
const WHAT = ["", "ready", "bound", "found", "closed", "refused", "listed", "missed"] as const;
const COMMANDS = { hold: 1, free: 2 } as const;
const PROTOCOLS = { tcp: 6, udp: 17 } as const;
/** Of what it complains about: the verifier can say much. */
const MOST_COMPLAINT = 4096;

/** What natbinder-watch tells: c/watch/watch.h is the other half. */
export interface WatchEvent {
  /**
   * `bound`: a socket has the port that it asked for; `found`: has it, and was not told of then; `closed`; `refused`: the
   * program saw EADDRINUSE. `ready`: begins to tell; `listed`: all that was there is told; `missed`: will be told as found.
   */
  what: (typeof WHAT)[number];
  family: "ipv4" | "ipv6";
  protocol: "tcp" | "udp";
  port: number;
  /** In the PID namespace of this process; 0 for one that is not in it. */
  pid: number;
  uid: number;
  /** SO_COOKIE, in decimal. Of `closed` there is nothing else. */
  cookie: string;
  program: string;
}

export interface WatchCommand {
  what: keyof typeof COMMANDS;
  protocol: "tcp" | "udp";
  port: number;
}

export interface WatchProgramOptions {
  args: string[];
  onEvent: (event: WatchEvent) => void;
  /** It has ended, with what it said last. */
  onEnd: (reason: string) => void;
}

/** The process that watches bind() by BPF. It ends with this one, however this one ends. */
export class WatchProgram {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #rest = Buffer.alloc(0);
  #complaint = "";

  constructor({ args, onEvent, onEnd }: WatchProgramOptions) {
    // Signals of a terminal are for this process, which tells it.
    this.#child = spawn(PROGRAM, args, { stdio: ["pipe", "pipe", "pipe"], detached: true });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    const end = (reason: string): void => {
      resolve();
      onEnd(reason);
    };
    this.#child.on("error", (error) => end(error.message));
    this.#child.on("close", (code, signal) => end(this.#complaint.trim().split("\n").at(-1) || `${signal ?? code}`));
    this.#child.stdin?.on("error", () => undefined);
    this.#child.stderr?.on("data", (text: Buffer) => {
      this.#complaint = (this.#complaint + text.toString()).slice(-MOST_COMPLAINT);
    });
    this.#child.stdout?.on("data", (bytes: Buffer) => this.#read(bytes, onEvent));
  }

  send(commands: readonly WatchCommand[]): void {
    const bytes = Buffer.alloc(COMMAND_BYTES * commands.length);
    commands.forEach(({ what, protocol, port }, index) => {
      const at = COMMAND_BYTES * index;
      bytes[at] = COMMANDS[what];
      bytes[at + 1] = PROTOCOLS[protocol];
      new DataView(bytes.buffer, bytes.byteOffset).setUint16(at + 2, port, LITTLE_ENDIAN);
    });
    this.#child.stdin?.write(bytes);
  }

  /** Ends it. Resolves when its programs are out of the kernel. */
  async stop(): Promise<void> {
    this.#child.stdin?.end();
    await this.#ended;
  }

  #read(bytes: Buffer, onEvent: (event: WatchEvent) => void): void {
    const all = Buffer.concat([this.#rest, bytes]);
    const whole = all.length - (all.length % EVENT_BYTES);
    this.#rest = all.subarray(whole);
    for (let at = 0; at < whole; at += EVENT_BYTES) onEvent(readEvent(all.subarray(at, at + EVENT_BYTES)));
  }
}

function readEvent(bytes: Buffer): WatchEvent {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return {
    what: WHAT[view.getUint8(0)] ?? "",
    family: view.getUint8(1) === 6 ? "ipv6" : "ipv4",
    protocol: view.getUint8(2) === PROTOCOLS.udp ? "udp" : "tcp",
    port: view.getUint16(4, LITTLE_ENDIAN),
    pid: view.getUint32(8, LITTLE_ENDIAN),
    uid: view.getUint32(12, LITTLE_ENDIAN),
    cookie: String(view.getBigUint64(16, LITTLE_ENDIAN)),
    program: programName(bytes.subarray(PROGRAM_AT)),
  };
}

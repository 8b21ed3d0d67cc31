import type { Socket } from "node:net";
import { type Code, canonicalIp, type HostPort } from "@isthmus/protocol";
import { freeMemory } from "@isthmus/service";
import type { SpliceDump } from "../data-path.ts";
import { resetSocket } from "./reset-socket.ts";
import type { HeldBytes, SpliceAccount, SpliceMember } from "./splice-account.ts";
import type { SpliceTally } from "./tally.ts";
import type { Leg } from "./waiting-leg.ts";

/**
 * The most bytes that a splice ever keeps in this process, however slowly a side reads: per direction one chunk (or what
 * came before pairing) that the other socket has not taken yet, and one that was read ahead; 64 KiB each. The system's
 * socket buffers are outside of this.
 */
export const MOST_SPLICE_BYTES = 256 * 1024;

/** Which half a socket is: on the socket itself, so that all sockets share the listeners below. */
const HALF = Symbol("half");
interface SplicedSocket extends Socket {
  [HALF]?: Half;
}

/** One leg, and the direction that starts at it. */
class Half implements HeldBytes {
  readonly splice: Splice;
  readonly socket: SplicedSocket;
  other!: Half;
  bytes = 0;
  /** A chunk above the allocation's rate. */
  held: Buffer | undefined;
  closed = false;

  constructor(splice: Splice, socket: Socket) {
    this.splice = splice;
    this.socket = socket;
  }

  get heldBytes(): number {
    return this.held?.length ?? 0;
  }

  release(): void {
    const chunk = this.held!;
    this.held = undefined;
    this.deliver(chunk);
    if (this.socket.readableEnded) this.other.socket.end();
    else if (!this.other.socket.writableNeedDrain) this.socket.resume();
  }

  deliver(chunk: Buffer): void {
    const { socket } = this.other;
    this.bytes += chunk.length;
    this.splice.moved(chunk.length);
    socket.write(chunk);
    // Otherwise it is still to be sent.
    if (socket.writableLength === 0) freeMemory(chunk);
    if (socket.writableNeedDrain) this.socket.pause();
  }
}

/**
 * Two TCP legs joined: bytes both ways with back-pressure. FIN passes in its own direction only; what ends otherwise
 * ends the other leg with RST.
 *
 * Own listeners and not `socket.pipe`: as fast (measured, TCP over loopback, within the noise), and they count, hold
 * back and bound what is kept.
 */
export class Splice implements SpliceMember {
  readonly ownIdleMs = 0;
  readonly since = performance.now();
  lastActive = this.since;
  readonly #id: number;
  readonly #cell: number | undefined;
  readonly #sources: readonly [HostPort, HostPort];
  readonly #account: SpliceAccount;
  readonly #tally: SpliceTally;
  readonly #onClosed: (code: Code) => void;
  readonly #halves: readonly [Half, Half];
  #ended = false;

  constructor(options: {
    id: number;
    cell: number | undefined;
    account: SpliceAccount;
    tally: SpliceTally;
    /** Of side 0, of side 1. */
    sockets: readonly [Socket, Socket];
    onClosed: (code: Code) => void;
  }) {
    this.#id = options.id;
    this.#cell = options.cell;
    this.#account = options.account;
    this.#tally = options.tally;
    this.#onClosed = options.onClosed;
    const [a, b] = options.sockets;
    this.#sources = [sourceOf(a), sourceOf(b)];
    this.#halves = [new Half(this, a), new Half(this, b)];
    this.#halves[0].other = this.#halves[1];
    this.#halves[1].other = this.#halves[0];
  }

  /** Joins the legs: what came early goes first. */
  start(legs: readonly [Leg, Leg]): void {
    this.#account.enter(this);
    this.#tally.splices++;
    for (const { socket } of this.#halves) {
      socket.on("error", ignore);
      socket.on("data", onData);
      socket.on("drain", onDrain);
      socket.on("end", onEnd);
      socket.on("close", onClose);
      socket[HALF] = this.#halves[socket === this.#halves[0].socket ? 0 : 1];
    }
    for (const side of [0, 1] as const) {
      const half = this.#halves[side];
      const { early } = legs[side];
      if (early.length > 0) this.pass(half, early);
      if (this.#ended) return;
      if (half.socket.destroyed) this.end("reset");
      else if (half.held === undefined && half.socket.readableEnded) half.other.socket.end();
      else if (half.held === undefined && !half.other.socket.writableNeedDrain) half.socket.resume();
    }
  }

  dump(now: number): SpliceDump {
    const [a, b] = this.#halves;
    return {
      splice: this.#id,
      ...(this.#cell === undefined ? {} : { cell: this.#cell }),
      proto: "tcp",
      sources: this.#sources,
      bytes: [a.bytes, b.bytes],
      ageMs: now - this.since,
      idleMs: now - this.lastActive,
    };
  }

  /** Sends on what a leg received, or holds it back. */
  pass(half: Half, chunk: Buffer): void {
    // A leg whose reset follows its FIN may still be heard of.
    if (this.#ended) return;
    const { bytes: most } = this.#account.limits;
    if (most > 0 && half.bytes + half.other.bytes + chunk.length > most) {
      this.end("byte-limit");
      return;
    }
    if (this.#account.mayPass(chunk.length)) {
      half.deliver(chunk);
      return;
    }
    half.held = chunk;
    half.socket.pause();
    this.#account.hold(half);
  }

  moved(bytes: number): void {
    this.lastActive = performance.now();
    this.#tally.countBytes(bytes);
  }

  /** Resets both legs. */
  end(code: Code): void {
    if (this.#ended) return;
    this.#settle(code);
    for (const half of this.#halves) {
      this.#account.drop(half);
      half.held = undefined;
      resetSocket(half.socket);
    }
  }

  legClosed(half: Half, hadError: boolean): void {
    half.closed = true;
    if (hadError) this.end("reset");
    else if (half.other.closed && !this.#ended) this.#settle("finished");
  }

  #settle(code: Code): void {
    this.#ended = true;
    this.#account.leave(this);
    this.#tally.splices--;
    this.#tally.countClosed(code);
    this.#onClosed(code);
  }
}

function ignore(): void {}

function onData(this: SplicedSocket, chunk: Buffer): void {
  const half = this[HALF]!;
  half.splice.pass(half, chunk);
}

/** The socket took everything: its peer may go on. */
function onDrain(this: SplicedSocket): void {
  const { other } = this[HALF]!;
  if (other.held === undefined) other.socket.resume();
}

function onEnd(this: SplicedSocket): void {
  const half = this[HALF]!;
  // A held chunk goes before the end.
  if (half.held === undefined) half.other.socket.end();
}

function onClose(this: SplicedSocket, hadError: boolean): void {
  const half = this[HALF]!;
  half.splice.legClosed(half, hadError);
}

function sourceOf(socket: Socket): HostPort {
  return { host: canonicalIp(socket.remoteAddress ?? ""), port: socket.remotePort ?? 0 };
}

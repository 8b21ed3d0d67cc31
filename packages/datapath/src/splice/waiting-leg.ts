import type { Socket } from "node:net";
import { resetSocket } from "./reset-socket.ts";

/** Reading of a waiting leg stops when this much has come; the rest waits in the system and at the sender. */
const EARLY_BYTES = 64 * 1024;
const FIRST_BYTES = 512;
const NOTHING = Buffer.alloc(0);

/** Idle legs are probed by TCP itself after this, so that a vanished peer is noticed. */
const KEEP_ALIVE_MS = 60_000;

/**
 * How a server must accept legs. Reading ahead ends with the first chunk (a high-water mark of 1), which is what bounds
 * the memory of a splice.
 */
export const LEG_SOCKETS = {
  allowHalfOpen: true,
  pauseOnConnect: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: KEEP_ALIVE_MS,
  highWaterMark: 1,
} as const;

/** A leg that a splice takes over: the socket is paused, `early` came before everything that it still has. */
export interface Leg {
  readonly socket: Socket;
  early: Buffer;
}

/**
 * A leg without a peer. It is read, so that a reset is noticed at once: a socket that nobody reads from stays silent
 * about its end.
 */
export class WaitingLeg {
  readonly socket: Socket;
  /** When it came, by `performance.now()`. */
  readonly since = performance.now();
  readonly #onGone: () => void;
  /** One growing buffer: a peer that sends single bytes must not cost an object for each. */
  #early: Buffer = NOTHING;
  #length = 0;

  /** @param onGone the peer ended it */
  constructor(socket: Socket, onGone: () => void) {
    this.socket = socket;
    this.#onGone = onGone;
    socket.on("error", ignore);
    socket.on("close", this.#onClose);
    socket.on("data", this.#onData);
    socket.resume();
  }

  /** Hands the leg over to a splice. */
  take(): Leg {
    this.#release();
    this.socket.pause();
    return { socket: this.socket, early: this.#early.subarray(0, this.#length) };
  }

  reset(): void {
    this.#release();
    this.socket.on("error", ignore);
    resetSocket(this.socket);
  }

  #release(): void {
    this.socket.off("data", this.#onData);
    this.socket.off("close", this.#onClose);
    this.socket.off("error", ignore);
  }

  readonly #onClose = (): void => {
    this.#release();
    this.#onGone();
  };

  readonly #onData = (chunk: Buffer): void => {
    const room = EARLY_BYTES - this.#length;
    this.#append(chunk.subarray(0, room));
    if (chunk.length < room) return;
    this.socket.pause();
    if (chunk.length > room) this.socket.unshift(chunk.subarray(room));
  };

  #append(bytes: Buffer): void {
    const length = this.#length + bytes.length;
    if (length > this.#early.length) {
      const larger = Buffer.allocUnsafeSlow(
        Math.max(length, Math.min(2 * this.#early.length, EARLY_BYTES), FIRST_BYTES),
      );
      this.#early.copy(larger, 0, 0, this.#length);
      this.#early = larger;
    }
    bytes.copy(this.#early, this.#length);
    this.#length = length;
  }
}

function ignore(): void {}

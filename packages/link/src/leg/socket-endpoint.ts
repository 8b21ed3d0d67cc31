import type { Socket } from "node:net";
import type { Endpoint } from "../open/stream.ts";

const RESET_LATER_MS = 1000;
/** A connection whose two directions have ended is closed after this, though the other side never closes its own. */
const LINGER_MS = 10_000;

/** A TCP connection (opened with `allowHalfOpen`) as a stream uses it. */
export class SocketEndpoint implements Endpoint {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  write(chunk: Buffer): boolean {
    return this.#socket.write(chunk);
  }

  get isDrained(): boolean {
    return this.#socket.writableLength === 0;
  }

  end(): void {
    this.#socket.end();
  }

  reset(later = false): void {
    if (later) {
      setTimeout(() => this.reset(), RESET_LATER_MS).unref();
      return;
    }
    const socket = this.#socket;
    // Sends RST where the connection stands; one that is being connected is given up.
    if (socket.connecting) socket.destroy();
    // libuv refuses to reset while a FIN is being sent, and Node then never closes the connection.
    else if (isSendingFin(socket)) socket.once("finish", () => socket.resetAndDestroy());
    else socket.resetAndDestroy();
  }

  close(): void {
    const close = (): void => {
      const timer = setTimeout(() => this.#socket.destroy(), LINGER_MS);
      this.#socket.once("close", () => clearTimeout(timer));
    };
    // Never before everything is written: a reader that takes its time must not see a clean end too early.
    if (this.#socket.destroyed) return;
    if (this.#socket.writableFinished) close();
    else this.#socket.once("finish", close);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }
}

function isSendingFin({ destroyed, writableEnded, writableFinished, writableLength }: Socket): boolean {
  return !destroyed && writableEnded && !writableFinished && writableLength === 0;
}

/** Where a connection's events go: a leg's methods, or a stream's for its application. */
export interface SocketEvents {
  data(chunk: Buffer): void;
  end(): void;
  drained(): void;
  /** It closed without an orderly end. */
  lost(): void;
}

/** Reports a socket's events, also an end that came before; a loss once, an orderly close (both ends seen) never. */
export function listenTo(socket: Socket, events: SocketEvents): void {
  socket.on("data", (chunk: Buffer) => events.data(chunk));
  socket.on("end", () => events.end());
  socket.on("drain", () => events.drained());
  socket.on("error", () => undefined);
  socket.on("close", (hadError) => {
    if (hadError || !socket.readableEnded || !socket.writableFinished) events.lost();
  });
  if (socket.closed) events.lost();
  else if (socket.readableEnded) events.end();
}

import type { Socket } from "node:net";
import { CONTROL_FRAME_MAX_BYTES } from "@isthmus/protocol";

/** Unsent bytes above which the peer does not read: the connection is given up. */
const MOST_UNSENT_BYTES = 256 * 1024;

/**
 * A direct control connection behind its leg header: control frames in both directions, each behind its length as 16
 * bits.
 */
export class ControlConnection {
  readonly #socket: Socket;
  #rest: Buffer = Buffer.alloc(0);

  constructor(socket: Socket, events: { frame: (frame: Buffer) => void; closed: () => void }) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => this.#receive(chunk, events.frame));
    socket.on("end", () => socket.destroy());
    socket.on("error", () => undefined);
    socket.on("close", () => events.closed());
    socket.resume();
  }

  /** @returns false when the connection cannot take it */
  send(frame: Buffer): boolean {
    if (this.#socket.destroyed || this.#socket.connecting) return false;
    const length = Buffer.alloc(2);
    length.writeUInt16BE(frame.length);
    this.#socket.write(Buffer.concat([length, frame]));
    if (this.#socket.writableLength > MOST_UNSENT_BYTES) this.#socket.destroy();
    return true;
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Buffer, take: (frame: Buffer) => void): void {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= 2) {
      const length = bytes.readUInt16BE();
      if (length === 0 || length > CONTROL_FRAME_MAX_BYTES) {
        this.#socket.destroy();
        return;
      }
      if (bytes.length < 2 + length) break;
      take(bytes.subarray(2, 2 + length));
      bytes = bytes.subarray(2 + length);
    }
    this.#rest = Buffer.from(bytes);
  }
}

import type { Socket } from "node:net";

/**
 * Ends a socket with RST; what it has not sent yet is lost. The socket needs an `error` listener.
 *
 * libuv refuses to reset a socket whose FIN is being sent, and Node then leaves its handle open for ever; so the reset
 * follows the FIN, one turn of the loop later.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  const finIsBeingSent = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0;
  if (finIsBeingSent) socket.once("finish", () => socket.resetAndDestroy());
  else socket.resetAndDestroy();
}

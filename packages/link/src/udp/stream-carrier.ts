import type { Socket } from "node:net";
import { LIMITS } from "@isthmus/protocol";
import type { DatagramCarrier } from "./path.ts";

/** Unsent bytes of a stream above which datagrams are dropped, as a full queue of a network would. */
const STREAM_QUEUE_BYTES = 256 * 1024;

/**
 * Datagrams on a TCP leg of the stream endpoint, each behind its length as 16 bits: where nothing else passes. What it
 * costs (one lost segment holds up all that follow) is the reason why it is the last resort.
 * @param socket connected, the leg header written
 */
export function streamCarrier(
  socket: Socket,
  events: { datagram: (datagram: Buffer) => void; closed: () => void },
): DatagramCarrier {
  let rest: Buffer = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    let bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (bytes.length >= 2) {
      const length = bytes.readUInt16BE();
      if (length > LIMITS.datagramCeilingBytes) {
        socket.destroy();
        return;
      }
      if (bytes.length < 2 + length) break;
      events.datagram(bytes.subarray(2, 2 + length));
      bytes = bytes.subarray(2 + length);
    }
    rest = Buffer.from(bytes);
  });
  socket.on("end", () => socket.destroy());
  socket.on("error", () => undefined);
  socket.on("close", () => events.closed());
  return {
    send: (datagram) => {
      if (socket.destroyed || socket.writableLength > STREAM_QUEUE_BYTES) return;
      const length = Buffer.alloc(2);
      length.writeUInt16BE(datagram.length);
      socket.write(Buffer.concat([length, datagram]));
    },
    close: () => void socket.destroy(),
  };
}

import type { Socket } from "node:net";
import { decodePreface, IsthmusError, type LegHeader, PREFACE_BYTES } from "@isthmus/protocol";
import type { Generation } from "../keys/generation.ts";
import { type LegEvent, LegStream } from "../leg/leg-stream.ts";
import { listenTo } from "../leg/socket-endpoint.ts";
import type { Leg, OpenMessage } from "../open/stream.ts";

/** A direct leg must show what it is for within this time. */
export const INBOUND_TIMEOUT_MS = 3000;

export interface InboundLegHandlers {
  /** A sealed leg brought its open along. @returns the leg that takes everything further, nothing when it is refused */
  sealed(message: OpenMessage, codec: LegStream): Leg | undefined;
  /** A plain leg: its open is on its way over control. The socket is paused, nothing of it was used up. */
  plain(): void;
  /** The dialler holds the link's header key, but what followed was no leg. */
  refused(): void;
}

/**
 * Reads a direct leg that the opener dialled, of whose open nothing was heard yet, until it is known what it is for.
 * @param socket paused, behind the leg header, which was verified
 */
export function readInboundLeg(
  socket: Socket,
  header: LegHeader,
  generation: Generation,
  handlers: InboundLegHandlers,
): void {
  let leg: Leg | undefined;
  const timer = setTimeout(() => socket.destroy(), INBOUND_TIMEOUT_MS);
  const onClose = (): void => clearTimeout(timer);
  socket.once("close", onClose);
  socket.on("error", () => undefined);

  const refuse = (): void => {
    handlers.refused();
    socket.resetAndDestroy();
  };
  const readSealed = (bytes: Buffer): void => {
    const codec = new LegStream({ generation, openId: header.openId, attempt: header.attempt, plain: false });
    const onEvent = (event: LegEvent): void => {
      if (leg) leg.event(event);
      else if (event.is === "open") {
        clearTimeout(timer);
        if (!belongsTo(event.message, header)) throw new IsthmusError("bad-record", "the open is for another leg");
        leg = handlers.sealed(event.message, codec);
        if (!leg) socket.resetAndDestroy();
      } else if (event.is !== "preface" && !socket.destroyed) {
        throw new IsthmusError("bad-record", "the first record is no open");
      }
    };
    const onData = (chunk: Buffer): void => {
      if (leg) {
        leg.data(chunk);
        return;
      }
      try {
        codec.receive(chunk, onEvent);
      } catch {
        refuse();
      }
    };
    listenTo(socket, {
      data: onData,
      end: () => (leg ? leg.end() : void socket.destroy()),
      drained: () => leg?.drained(),
      lost: () => leg?.lost("leg-lost"),
    });
    onData(bytes);
  };

  let first = Buffer.alloc(0);
  const onFirst = (chunk: Buffer): void => {
    first = Buffer.concat([first, chunk]);
    if (first.length < PREFACE_BYTES) return;
    socket.off("data", onFirst);
    let isPlain: boolean;
    try {
      isPlain = decodePreface(first.subarray(0, PREFACE_BYTES), generation.receive.preface).plain;
    } catch {
      refuse();
      return;
    }
    if (!isPlain) {
      readSealed(first);
      return;
    }
    clearTimeout(timer);
    socket.off("close", onClose);
    socket.pause();
    socket.unshift(first);
    handlers.plain();
  };
  socket.on("data", onFirst);
  socket.resume();
}

/** A leg carries the open of itself and of no other, sealed and direct as it is. */
function belongsTo({ id, attempt, proto, plain, rendezvous }: OpenMessage, header: LegHeader): boolean {
  return id === header.openId && attempt === header.attempt && proto === "tcp" && !plain && rendezvous.at === "direct";
}

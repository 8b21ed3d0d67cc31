import type { Socket } from "node:net";
import {
  type Pump,
  type PumpAccount,
  type PumpEnd,
  type PumpJoin,
  pumpLegOf,
  resetUnlessFinished,
  thePump,
} from "@isthmus/native/pump";
import type { Endpoint, JoinOutcome } from "../open/stream.ts";
import type { HandedLeg } from "./leg-stream.ts";

const RESET_LATER_MS = 1000;
/** A connection whose two directions have ended is closed after this, though the other side never closes its own. */
const LINGER_MS = 10_000;

const NOTHING = Buffer.alloc(0);

const OUTCOMES: Record<PumpEnd, JoinOutcome> = {
  finished: "finished",
  "reset-by-0": "lost",
  "reset-by-1": "other-lost",
  "byte-limit": "other-lost",
  told: "other-lost",
  "bad-record": "bad-record",
};

/** Of all connections that the pump has joined; without limits. */
let account: PumpAccount | undefined;

/** Sockets of Node's whose connection is the pump's: whatever they report means nothing. */
const handedOver = new WeakSet<Socket>();

/** A TCP connection (opened with `allowHalfOpen`) as a stream uses it. */
export class SocketEndpoint implements Endpoint {
  /** Node's; none once the pump has the connection, so that an idle one costs little. */
  #socket: Socket | undefined;
  #join: PumpJoin | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  write(chunk: Buffer, spent?: () => void): boolean {
    if (!this.#socket) return false;
    return spent ? this.#socket.write(chunk, spent) : this.#socket.write(chunk);
  }

  end(): void {
    this.#socket?.end();
  }

  reset(later = false): void {
    if (later) {
      setTimeout(() => this.reset(), RESET_LATER_MS).unref();
      return;
    }
    const socket = this.#socket;
    if (!socket) this.#join?.end();
    // Sends RST where the connection stands; one that is being connected is given up.
    else if (socket.connecting) socket.destroy();
    // libuv refuses to reset while a FIN is being sent, and Node then never closes the connection.
    else if (isSendingFin(socket)) socket.once("finish", () => socket.resetAndDestroy());
    else socket.resetAndDestroy();
  }

  close(): void {
    const socket = this.#socket;
    const close = (): void => {
      const timer = setTimeout(() => socket?.destroy(), LINGER_MS);
      socket?.once("close", () => clearTimeout(timer));
    };
    // Never before everything is written: a reader that takes its time must not see a clean end too early.
    if (!socket || socket.destroyed) return;
    if (socket.writableFinished) close();
    else socket.once("finish", close);
  }

  pause(): void {
    this.#socket?.pause();
  }

  resume(): void {
    this.#socket?.resume();
  }

  joinWith(other: Endpoint, onEnded: (outcome: JoinOutcome) => void, sealed?: HandedLeg): boolean {
    if (!this.#socket || !(other instanceof SocketEndpoint) || !other.#socket) return false;
    const join = handOver([this.#socket, other.#socket], (end) => onEnded(OUTCOMES[end]), sealed);
    if (!join) return false;
    for (const endpoint of [this, other]) {
      endpoint.#join = join;
      endpoint.#socket = undefined;
    }
    return true;
  }
}

/** @returns nothing where the pump cannot have them: nothing has changed then */
function handOver(
  sockets: readonly [Socket, Socket],
  onEnded: (end: PumpEnd) => void,
  sealed: HandedLeg | undefined,
): PumpJoin | undefined {
  const pump = startedPump();
  if (!pump || sockets.some(({ destroyed, writableLength }) => destroyed || writableLength > 0)) return undefined;
  // What Node takes out of a socket here it reports as well.
  for (const socket of sockets) handedOver.add(socket);
  const legs = sockets.map((socket) => pumpLegOf(socket, NOTHING));
  const [own, other] = legs;
  let join: PumpJoin | undefined;
  try {
    if (own && other) {
      account ??= pump.createAccount();
      const { cut = NOTHING } = sealed ?? {};
      const early = cut.length > 0 ? Buffer.concat([cut, other.early]) : other.early;
      join = pump.join(account, [own, { ...other, early }], onEnded, sealed);
    }
  } catch {
    // No descriptor is left, or no memory.
  }
  sockets.forEach((socket, side) => {
    if (join) socket.destroy();
    else {
      handedOver.delete(socket);
      const early = legs[side]?.early ?? NOTHING;
      if (early.length > 0) socket.unshift(early);
      socket.resume();
    }
  });
  return join;
}

/** The threads of the pump are started when the first connection asks for it, and may find no descriptor then. */
function startedPump(): Pump | undefined {
  try {
    return thePump();
  } catch {
    return undefined;
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
  // A daemon that is killed must not look like the end of the bytes.
  if (socket.connecting) socket.once("connect", () => resetUnlessFinished(socket));
  else resetUnlessFinished(socket);
  const isOurs = (): boolean => !handedOver.has(socket);
  socket.on("data", (chunk: Buffer) => isOurs() && events.data(chunk));
  socket.on("end", () => isOurs() && events.end());
  socket.on("drain", () => isOurs() && events.drained());
  socket.on("error", () => undefined);
  socket.on("close", (hadError) => {
    if (!isOurs()) return;
    if (hadError || !socket.readableEnded || !socket.writableFinished) events.lost();
  });
  if (socket.closed) events.lost();
  else if (socket.readableEnded) events.end();
}

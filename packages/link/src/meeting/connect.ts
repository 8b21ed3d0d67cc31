import { connect as connectSocket, type Socket } from "node:net";
import type { HostPort } from "@isthmus/protocol";

/** Idle legs and control connections are probed by TCP itself after this, so that a vanished peer is noticed. */
export const KEEP_ALIVE_MS = 60_000;

/** A TCP connection as all of ours are: half-open allowed, no delay, kept alive. */
export function connectTo(address: HostPort): Socket {
  return connectSocket({
    host: address.host,
    port: address.port,
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
  });
}

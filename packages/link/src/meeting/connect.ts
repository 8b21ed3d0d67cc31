import { connect as connectSocket, type Socket } from "node:net";
import type { HostPort } from "@isthmus/protocol";

/** Idle legs and control connections are probed by TCP itself after this, so that a vanished peer is noticed. */
export const KEEP_ALIVE_MS = 60_000;

/**
 * A TCP connection as all of ours are: half-open allowed, no delay, kept alive.
 * @param source port of this end; any, when there is none
 */
export function connectTo(address: HostPort, source?: number): Socket {
  return connectSocket({
    host: address.host,
    port: address.port,
    ...(source === undefined ? {} : { localPort: source }),
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
  });
}

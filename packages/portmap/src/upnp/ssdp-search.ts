import { createSocket } from "node:dgram";
import { isIPv4 } from "node:net";
import { onAbort } from "../deadline.ts";
import {
  checkedLocation,
  isOfGateway,
  parseSsdpMessage,
  SEARCH_TARGETS,
  SSDP_GROUP,
  SSDP_PORT,
  type SsdpMessage,
  searchRequest,
} from "./ssdp-message.ts";

/** Multicast over a wireless network gets lost. */
const REPEAT_AFTER_MS = 400;
/** The answers' spread of one second, once more for the repetition, and the way. */
const WINDOW_MS = 1700;
/** Devices beyond that are noise. */
const MOST_DEVICES = 32;

export interface SsdpSearchOptions {
  /** The own address on the network to search. */
  localAddress: string;
  /** @default 1900 */
  port?: number;
  /** Ends the search at once. */
  isEnough: (location: URL) => boolean;
  /** Every answer of a gateway, repeated ones too. */
  onAnswer?: ((message: SsdpMessage, from: string) => void) | undefined;
  signal: AbortSignal;
  /** @default 1700 */
  windowMs?: number;
}

/** Where gateways that answer describe themselves. Empty when none does, or where the network cannot be asked. */
export function searchGateways(options: SsdpSearchOptions): Promise<URL[]> {
  const { localAddress, port = SSDP_PORT, isEnough, onAnswer, signal, windowMs = WINDOW_MS } = options;
  const found = new Map<string, URL>();
  const { promise, resolve } = Promise.withResolvers<URL[]>();
  if (!isIPv4(localAddress) || signal.aborted) return Promise.resolve([]);
  const socket = createSocket("udp4");
  const finish = () => resolve([...found.values()]);
  socket.on("error", finish);
  socket.on("message", (datagram, { address }) => {
    const message = parseSsdpMessage(datagram);
    if (message?.kind !== "answer" || !isOfGateway(message) || message.location === undefined) return;
    const location = checkedLocation(message.location, address);
    if (!location || (!found.has(location.href) && found.size >= MOST_DEVICES)) return;
    onAnswer?.(message, address);
    found.set(location.href, location);
    if (isEnough(location)) finish();
  });
  const ask = () => {
    // A network that is gone is told by the window's end.
    for (const target of SEARCH_TARGETS) socket.send(searchRequest(target), port, SSDP_GROUP, () => undefined);
  };
  socket.bind(0, localAddress, () => {
    try {
      socket.setMulticastInterface(localAddress);
      ask();
    } catch {
      finish();
    }
  });
  const repeat = setTimeout(ask, REPEAT_AFTER_MS);
  const end = setTimeout(finish, windowMs);
  const release = onAbort(signal, finish);
  return promise.finally(() => {
    clearTimeout(repeat);
    clearTimeout(end);
    release();
    socket.close();
  });
}

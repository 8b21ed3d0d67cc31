import { type ClientRequest, type IncomingMessage, request } from "node:http";
import type { Socket } from "node:net";
import { abortError, onAbort } from "../deadline.ts";
import { PortmapError } from "../portmap-error.ts";

const MOST_HEADER_BYTES = 8192;
/** A connection that is not up by then was turned away at first: its SYN is sent again after a second. */
const TURNED_AWAY_MS = 900;

export interface HttpRequest {
  url: URL;
  method: "GET" | "POST";
  headers?: Record<string, string>;
  /** Made when the connection is up, since what is asked for can depend on the own address of it. */
  body?: (localAddress: string) => string;
  /** The host's own address to ask from. */
  localAddress?: string | undefined;
  /** A longer answer is `malformed`. */
  mostBytes: number;
  /** The connection is up: at once, or at the second attempt alone. */
  onConnected?: (wasTurnedAway: boolean) => void;
  signal: AbortSignal;
}

export interface HttpAnswer {
  status: number;
  text: string;
  /** Our end of the connection. */
  localAddress: string;
}

/**
 * One request on a connection of its own: no redirects, no cookies, no compression, no proxies.
 * @throws PortmapError `unreachable`, `timeout`, `aborted` or `malformed`
 */
export function httpRequest(options: HttpRequest): Promise<HttpAnswer> {
  const { url, method, headers, body, localAddress, mostBytes, onConnected, signal } = options;
  let wasTurnedAway = false;
  // Not by the clock alone: where this process had no turn for long, what happened meanwhile is heard before the immediate.
  const late = setTimeout(() => setImmediate(() => (wasTurnedAway = true)), TURNED_AWAY_MS).unref();
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  const outgoing = request(url, {
    method,
    headers: { ...headers, "Accept-Encoding": "identity", Connection: "close", "User-Agent": "UPnP/1.1 isthmus/1" },
    agent: false,
    maxHeaderSize: MOST_HEADER_BYTES,
    ...(localAddress !== undefined && { localAddress }),
  });
  const release = onAbort(signal, () => outgoing.destroy(abortError(signal)));
  outgoing.once("socket", (socket) => {
    socket.once("connect", () => onConnected?.(wasTurnedAway));
    send(outgoing, socket, body);
  });
  outgoing.on("error", (error) => reject(httpError(error)));
  outgoing.once("response", (incoming) => {
    read(incoming, mostBytes).then(
      (text) => resolve({ status: incoming.statusCode ?? 0, text, localAddress: outgoing.socket?.localAddress ?? "" }),
      (error) => reject(error instanceof PortmapError ? error : signal.aborted ? abortError(signal) : httpError(error)),
    );
  });
  return promise.finally(() => {
    clearTimeout(late);
    release();
    outgoing.destroy();
  });
}

function send(outgoing: ClientRequest, socket: Socket, body: HttpRequest["body"]): void {
  if (!body) {
    outgoing.end();
    return;
  }
  socket.once("connect", () => {
    const content = Buffer.from(body(socket.localAddress ?? ""));
    outgoing.setHeader("Content-Length", content.length);
    outgoing.end(content);
  });
}

async function read(incoming: IncomingMessage, mostBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > mostBytes) throw new PortmapError("malformed", `the gateway's answer is longer than ${mostBytes} B`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function httpError(error: unknown): PortmapError {
  if (error instanceof PortmapError) return error;
  const { code = "" } = error as NodeJS.ErrnoException;
  // A reset may come from a daemon that just ends; a parse error has a code of its own.
  const isNoise = code.startsWith("HPE_");
  return isNoise
    ? new PortmapError("malformed", "the gateway's answer is no HTTP", { cause: error })
    : new PortmapError("unreachable", `the gateway cannot be reached: ${code || String(error)}`, { cause: error });
}

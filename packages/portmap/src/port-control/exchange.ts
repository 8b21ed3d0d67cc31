import { createSocket } from "node:dgram";
import { abortError, onAbort } from "../deadline.ts";
import { PortmapError } from "../portmap-error.ts";

/** The first repetition (RFC 6886, 3.1); each further one waits twice as long. RFC 6887's 3 s would outlast a bind(). */
const FIRST_REPEAT_MS = 250;

export interface Exchange<T> {
  gateway: string;
  port: number;
  /** The own address to ask from. @default the system's choice */
  localAddress: string | undefined;
  /** Given the own address on the way to the gateway. */
  request: (localAddress: string) => Buffer;
  /** The answer, or undefined when it is one to something else. A `malformed` one is waited past, others end it. */
  parse: (datagram: Buffer) => T | undefined;
  signal: AbortSignal;
}

/**
 * One question and its answer, repeated until it comes, on a socket of its own that hears the gateway alone.
 * @throws PortmapError `timeout`, `malformed` when nothing better came in time, `unreachable`, `aborted`
 */
export function exchange<T>(options: Exchange<T>): Promise<T> {
  const { gateway, port, localAddress, request, parse, signal } = options;
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const socket = createSocket("udp4");
  let worst: PortmapError | undefined;
  let repeat: NodeJS.Timeout | undefined;
  const send = (packet: Buffer, nextMs: number) => {
    // A failure is told by the event.
    socket.send(packet, () => undefined);
    repeat = setTimeout(() => send(packet, nextMs * 2), nextMs);
  };
  socket.on("error", (cause: NodeJS.ErrnoException) => {
    reject(new PortmapError("unreachable", `the gateway cannot be asked: ${cause.code ?? cause.message}`, { cause }));
  });
  socket.on("message", (datagram) => {
    try {
      const answer = parse(datagram);
      if (answer !== undefined) resolve(answer);
    } catch (error) {
      // Anybody who guesses the port can send nonsense in the gateway's name.
      if (error instanceof PortmapError && error.code === "malformed") worst = error;
      else reject(error);
    }
  });
  socket.on("connect", () => {
    try {
      send(request(socket.address().address), FIRST_REPEAT_MS);
    } catch (error) {
      reject(error);
    }
  });
  const connect = () => socket.connect(port, gateway);
  if (localAddress === undefined) connect();
  else socket.bind(0, localAddress, connect);
  const release = onAbort(signal, () => reject(worst ?? abortError(signal)));
  return promise.finally(() => {
    clearTimeout(repeat);
    release();
    socket.close();
  });
}

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { parseHostPort, type SubscriptionReport } from "@isthmus/protocol";
import { onTestFinished } from "vitest";

/** A TCP service of this host, until the test has finished. @returns HOST:PORT */
export async function tcpService(serve: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    serve(socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export const echo = (socket: Socket): void => void socket.pipe(socket);

/** Sends each datagram back. @returns HOST:PORT */
export async function udpEcho(): Promise<string> {
  const socket = createSocket("udp4");
  socket.on("message", (message, source) => socket.send(message, source.port, source.address));
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  onTestFinished(() => void socket.close());
  return `127.0.0.1:${socket.address().port}`;
}

export function addressOf({ listen }: SubscriptionReport, channel: "tcp" | "udp" = "tcp"): string {
  return listen.find((listener) => listener.channel === channel)!.address;
}

/** A program that connects; errors are the test's to look at. */
export function client(address: string): Socket {
  const { host, port } = parseHostPort(address)!;
  const socket = connect({ host, port, allowHalfOpen: true });
  socket.on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  return socket;
}

/** What comes back until the end. @throws Error `ECONNRESET` when it is none */
export async function exchange(address: string, sent: string | Buffer): Promise<string> {
  const socket = client(address);
  socket.end(sent);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/** How a connection ends of which nothing is asked but to be there. */
export async function endOf(socket: Socket): Promise<string> {
  socket.resume();
  if (socket.destroyed) return "reset";
  const { promise, resolve } = Promise.withResolvers<string>();
  socket.once("end", () => resolve("end"));
  socket.once("error", (error: NodeJS.ErrnoException) =>
    resolve(error.code === "ECONNRESET" ? "reset" : error.message),
  );
  return promise;
}

/** Sends a datagram again and again, as UDP's programs do, until an answer is there. */
export async function askByUdp(address: string, payload: string, timeoutMs = 10_000): Promise<string> {
  const { host, port } = parseHostPort(address)!;
  const socket = createSocket("udp4");
  const again = setInterval(() => socket.send(payload, port, host), 200);
  socket.send(payload, port, host);
  try {
    const [answer] = (await once(socket, "message", { signal: AbortSignal.timeout(timeoutMs) })) as [Buffer];
    return answer.toString();
  } finally {
    clearInterval(again);
    socket.close();
  }
}

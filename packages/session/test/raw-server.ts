import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import { type WebSocket, WebSocketServer } from "ws";

/** A server that speaks WebSocket and for the rest does what a test wants. */
export async function startRawServer(onSocket: (socket: WebSocket) => void): Promise<{ origin: string; port: number }> {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
  server.on("connection", (socket) => {
    socket.on("error", () => undefined);
    onSocket(socket);
  });
  await new Promise((resolve) => server.on("listening", resolve));
  onTestFinished(async () => {
    for (const socket of server.clients) socket.terminate();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return { origin: `ws://127.0.0.1:${port}`, port };
}

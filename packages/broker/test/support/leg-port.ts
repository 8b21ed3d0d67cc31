import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { decodeLegHeader, LEG_HEADER_BYTES, probeNonce } from "@isthmus/protocol";
import { onTestFinished } from "vitest";

export interface LegPort {
  port: number;
  /** Connections that were made to it. */
  readonly dials: number;
}

/** A port on loopback that gives the nonce of each probe to `probed`. It is closed when the test has finished. */
export async function openLegPort(probed: (nonce: string) => void): Promise<LegPort> {
  const sockets = new Set<Socket>();
  let dials = 0;
  const server = createServer((socket) => {
    dials++;
    sockets.add(socket);
    let bytes = Buffer.alloc(0);
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.length < LEG_HEADER_BYTES) return;
      if (decodeLegHeader(bytes).kind === "probe") probed(probeNonce(bytes).toString("base64url"));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    port: (server.address() as AddressInfo).port,
    get dials() {
      return dials;
    },
  };
}

/** A port of loopback at which nobody listens, as of a moment ago. */
export async function closedPort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

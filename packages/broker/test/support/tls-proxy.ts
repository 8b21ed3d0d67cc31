import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer } from "node:tls";
import { type Certificate, loadOrCreateCertificate } from "@isthmus/service";
import { onTestFinished } from "vitest";

/** A proxy that ends TLS in front of a plain port, as HAProxy or nginx would. */
export async function startTlsProxy(): Promise<{
  origin: string;
  certificate: Certificate;
  passTo(port: number): void;
}> {
  const folder = await mkdtemp(join(tmpdir(), "isthmus-proxy-"));
  const certificate = await loadOrCreateCertificate(folder, "proxy");
  const sockets = new Set<Socket>();
  let target = 0;
  const server = createServer({ cert: certificate.cert, key: certificate.key }, (client) => {
    const upstream = connect(target, "127.0.0.1");
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
      from.pipe(to);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await rm(folder, { recursive: true, force: true });
  });
  return {
    origin: `wss://127.0.0.1:${(server.address() as AddressInfo).port}`,
    certificate,
    passTo: (port) => {
      target = port;
    },
  };
}

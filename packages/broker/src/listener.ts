import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Certificate } from "@isthmus/service";

/** A client has this long to finish its TLS handshake, and then to send the head of its request. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** An HTTP server for sessions alone: everything that is no upgrade is answered with 404. */
export function createSessionListener(certificate: Certificate | undefined): Server {
  const options = { headersTimeout: HANDSHAKE_TIMEOUT_MS, requestTimeout: HANDSHAKE_TIMEOUT_MS };
  const server = certificate
    ? createTlsServer({
        ...options,
        cert: certificate.cert,
        key: certificate.key,
        handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      })
    : createServer(options);
  return server.on("request", (_request, response) => {
    response.writeHead(404, { connection: "close" }).end();
  });
}

/** @returns the port, which was chosen by the system where 0 was given */
export async function listen(server: Server, host: string, port: number): Promise<number> {
  try {
    await listenOnce(server, host, port);
  } catch (error) {
    // A host without IPv6 has no wildcard of it.
    if (host !== "::" || (error as NodeJS.ErrnoException).code !== "EAFNOSUPPORT") throw error;
    await listenOnce(server, "0.0.0.0", port);
  }
  return (server.address() as AddressInfo).port;
}

function listenOnce(server: Server, host: string, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen({ host, port }, () => {
    server.off("error", reject);
    resolve();
  });
  return promise;
}

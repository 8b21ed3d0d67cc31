import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { SessionInterface } from "@isthmus/protocol";
import { type Identity, silentLogger } from "@isthmus/service";
import { SessionGate, SessionServer, type SessionServerOptions } from "@isthmus/session";
import { onTestFinished } from "vitest";

/** The real server side of sessions on loopback, with whatever handlers a test gives it. @returns HOST:PORT */
export async function serveSessions<I extends SessionInterface>(
  identity: Identity,
  options: Omit<SessionServerOptions<I, undefined>, "clientRole" | "heartbeatMs" | "authorize"> & {
    role: "isb" | "ist";
    authorize?: SessionServerOptions<I, undefined>["authorize"];
  },
): Promise<string> {
  const { role, ...rest } = options;
  const http = createServer().listen(0, "127.0.0.1");
  await once(http, "listening");
  const address = `127.0.0.1:${(http.address() as AddressInfo).port}`;
  const server = new SessionServer<I, undefined>({
    clientRole: "daemon",
    heartbeatMs: 20_000,
    authorize: () => ({ user: "alice", device: "laptop", context: undefined }),
    ...rest,
  });
  const gate = new SessionGate({
    role,
    identity,
    isOwnOrigin: (origin) => origin === `ws://${address}`,
    connectRate: { perSecond: 1000, burst: 1000 },
    maxSessions: 100,
    servers: [server],
    logger: silentLogger(),
  });
  http.on("upgrade", gate.handleUpgrade);
  onTestFinished(async () => {
    http.close();
    await gate.close();
    http.closeAllConnections();
  });
  return address;
}

import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Code, IsthmusError, ServerRole, SessionInterface } from "@isthmus/protocol";
import { type Certificate, createIdentity, type Identity, silentLogger } from "@isthmus/service";
import {
  BACKOFF_TO_IST,
  type Handlers,
  type LoginAttempt,
  type Session,
  SessionClient,
  type SessionClientOptions,
  SessionGate,
  type SessionGateOptions,
  SessionServer,
  type SessionServerOptions,
} from "@isthmus/session";
import { onTestFinished, vi } from "vitest";
import { z } from "zod";

/** A small protocol with one of everything. */
export const protocol = {
  toServer: {
    requests: {
      echo: { request: z.object({ text: z.string() }), reply: z.object({ text: z.string() }) },
      work: { request: z.object({}), reply: z.object({ done: z.int() }) },
    },
    events: { note: z.object({ n: z.int() }) },
  },
  toClient: {
    requests: { ask: { request: z.object({ n: z.int() }), reply: z.object({ n: z.int() }) } },
    events: { tick: z.object({ n: z.int(), pad: z.string().optional() }) },
  },
} as const satisfies SessionInterface;
type Protocol = typeof protocol;

type ServerOptions = SessionServerOptions<Protocol, string>;
export type ServerSession = Session<Protocol, string>;
type ServerHandlers = Handlers<Protocol["toServer"], ServerSession>;
type ClientHandlers = Handlers<Protocol["toClient"], SessionClient<Protocol>>;

/** The handlers of a server that nothing special is asked of. */
export const serverHandlers: ServerHandlers = {
  requests: { echo: (_session, { text }) => ({ text }), work: () => ({ done: 1 }) },
  events: { note: () => undefined },
};

const clientHandlers: ClientHandlers = {
  requests: { ask: (_client, { n }) => ({ n: n + 1 }) },
  events: { tick: () => undefined },
};

export interface TestServer {
  origin: string;
  port: number;
  identity: Identity;
  gate: SessionGate;
  server: SessionServer<Protocol, string>;
  attempts: LoginAttempt[];
  refused: Code[];
  /** Sessions that closed, in order, with the reason. */
  closed: { session: ServerSession; code: Code }[];
  close(): Promise<void>;
}

/** A real server on loopback. It is closed when the test has finished. */
export async function startServer(
  options: {
    identity?: Identity;
    role?: ServerRole;
    host?: string;
    port?: number;
    certificate?: Certificate;
    isOwnOrigin?: SessionGateOptions["isOwnOrigin"];
    gate?: Partial<SessionGateOptions>;
    server?: Partial<ServerOptions>;
  } = {},
): Promise<TestServer> {
  const identity = options.identity ?? createIdentity();
  const http = options.certificate ? createTlsServer(options.certificate) : createServer();
  const scheme = options.certificate ? "wss" : "ws";
  const attempts: LoginAttempt[] = [];
  const refused: Code[] = [];
  const closed: TestServer["closed"] = [];
  let origin = "";
  const server = new SessionServer<Protocol, string>({
    protocol,
    clientRole: "daemon",
    authorize: () => ({ user: "alice", device: "laptop", context: "context of alice" }),
    handlers: serverHandlers,
    heartbeatMs: 20_000,
    ...options.server,
    onClose: (session, code) => {
      closed.push({ session, code });
      options.server?.onClose?.(session, code);
    },
  });
  const authorize = server.options.authorize;
  server.options.authorize = (attempt) => {
    attempts.push(attempt);
    return authorize(attempt);
  };
  const gate = new SessionGate({
    role: options.role ?? "isb",
    identity,
    isOwnOrigin: options.isOwnOrigin ?? ((text) => text === origin),
    connectRate: { perSecond: 1000, burst: 1000 },
    maxSessions: 100,
    servers: [server],
    logger: silentLogger(),
    onRefused: (code) => refused.push(code),
    ...options.gate,
  });
  http.on("upgrade", gate.handleUpgrade);
  await new Promise<void>((resolve) => http.listen(options.port ?? 0, options.host ?? "127.0.0.1", resolve));
  const { port } = http.address() as AddressInfo;
  origin = `${scheme}://127.0.0.1:${port}`;
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= (async () => {
      const stopped = new Promise<void>((resolve) => http.close(() => resolve()));
      await gate.close();
      http.closeAllConnections();
      await stopped;
    })();
    return closing;
  };
  onTestFinished(close);
  return { origin, port, identity, gate, server, attempts, refused, closed, close };
}

type ClientOptions = SessionClientOptions<Protocol>;
export type TestClient = SessionClient<Protocol>;

/** A client of a server, started. It is stopped when the test has finished. */
export function startClient(
  server: Pick<TestServer, "origin" | "identity">,
  options: Partial<Omit<ClientOptions, "handlers">> & { handlers?: Partial<ClientHandlers> } = {},
): TestClient {
  const client = new SessionClient<Protocol>({
    protocol,
    identity: createIdentity(),
    role: "daemon",
    serverRole: "isb",
    target: { origins: [server.origin], expect: { key: server.identity.publicKey } },
    boot: "00112233445566ff",
    allowInsecure: false,
    backoff: BACKOFF_TO_IST,
    logger: silentLogger(),
    ...options,
    handlers: { ...clientHandlers, ...options.handlers },
  });
  client.start();
  onTestFinished(() => client.stop());
  return client;
}

/** A client that is up, and its session at the server. */
export async function connect(
  server: TestServer,
  options: Parameters<typeof startClient>[1] = {},
): Promise<{ client: TestClient; session: ServerSession }> {
  const identity = options.identity ?? createIdentity();
  const client = startClient(server, { ...options, identity });
  await client.whenUp(AbortSignal.timeout(10_000));
  return { client, session: server.server.get(identity.publicKey)! };
}

/** Why the newest attempt to reach the server failed. */
export function failure(client: TestClient): Promise<IsthmusError> {
  return vi.waitUntil(() => client.lastError, { timeout: 15_000, interval: 10 });
}

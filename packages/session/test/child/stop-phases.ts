import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { eventFrame, SUPPORTED_VERSIONS } from "@isthmus/protocol";
import { createIdentity, silentLogger } from "@isthmus/service";
import { SessionClient, type SessionClientOptions, SessionGate, SessionServer } from "@isthmus/session";
import { WebSocketServer } from "ws";

// Stops a client in each phase of its life, in a process of its own where nothing else holds handles. Prints one line
// `PHASE HANDLES` for each: the kinds of handles that were left, or `none`.

const none = { requests: {}, events: {} };
const protocol = { toServer: none, toClient: none };
const identity = createIdentity();

type Options = SessionClientOptions<typeof protocol>;

function client(port: number, options: Partial<Options> = {}): SessionClient<typeof protocol> {
  return new SessionClient({
    protocol,
    identity: createIdentity(),
    role: "daemon",
    serverRole: "isb",
    target: { origins: [`ws://127.0.0.1:${port}`], expect: { key: identity.publicKey } },
    boot: "0000000000000000",
    allowInsecure: false,
    backoff: { firstMs: 60_000, mostMs: 60_000, longAfterMs: 1e9, longMs: 60_000 },
    handlers: none,
    logger: silentLogger(),
    ...options,
  });
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

/** Takes connections and resolves when the first has sent something. */
async function tcpServer(onData?: (socket: Socket) => void) {
  const reached = Promise.withResolvers<void>();
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("data", () => {
      onData?.(socket);
      reached.resolve();
    });
  });
  const port = await listen(server);
  const close = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  return { port, reached: reached.promise, close };
}

async function webSocketServer(first?: string) {
  const reached = Promise.withResolvers<void>();
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  server.on("connection", (socket) => {
    socket.on("error", () => undefined);
    if (first === undefined) reached.resolve();
    else socket.send(first);
    socket.on("message", () => reached.resolve());
  });
  await new Promise((resolve) => server.on("listening", resolve));
  const close = async (): Promise<void> => {
    for (const socket of server.clients) socket.terminate();
    await new Promise((resolve) => server.close(resolve));
  };
  return { port: (server.address() as AddressInfo).port, reached: reached.promise, close };
}

async function realServer() {
  const server = new SessionServer({
    protocol,
    clientRole: "daemon",
    authorize: () => ({ context: undefined }),
    handlers: none,
    heartbeatMs: 1000,
  });
  const gate = new SessionGate({
    role: "isb",
    identity,
    isOwnOrigin: () => true,
    connectRate: { perSecond: 100, burst: 100 },
    maxSessions: 100,
    servers: [server],
    logger: silentLogger(),
  });
  const http = createHttpServer().on("upgrade", gate.handleUpgrade);
  const port = await listen(http);
  const close = async (): Promise<void> => {
    await gate.close();
    await new Promise((resolve) => http.close(resolve));
  };
  return { port, close };
}

function hello(): string {
  return eventFrame("hello", {
    versions: SUPPORTED_VERSIONS,
    role: "isb",
    key: identity.publicKey,
    nonce: "A".repeat(43),
  });
}

const phases: Record<string, () => Promise<() => Promise<void>>> = {
  "before-start": async () => {
    const stopped = client(1);
    await stopped.stop();
    stopped.start();
    return () => stopped.stop();
  },
  dial: async () => {
    const { port, reached, close } = await tcpServer();
    const stopped = client(port);
    stopped.start();
    await reached;
    return () => stopped.stop().then(close);
  },
  hello: async () => {
    const { port, reached, close } = await webSocketServer();
    const stopped = client(port);
    stopped.start();
    await reached;
    return () => stopped.stop().then(close);
  },
  login: async () => {
    const { port, reached, close } = await webSocketServer(hello());
    const stopped = client(port);
    stopped.start();
    await reached;
    return () => stopped.stop().then(close);
  },
  declare: async () => {
    const { port, close } = await realServer();
    const reached = Promise.withResolvers<void>();
    const onLogin = (): Promise<void> => {
      reached.resolve();
      return new Promise(() => undefined);
    };
    const stopped = client(port, { onLogin });
    stopped.start();
    await reached.promise;
    return () => stopped.stop().then(close);
  },
  up: async () => {
    const { port, close } = await realServer();
    const stopped = client(port);
    stopped.start();
    await stopped.whenUp();
    return () => stopped.stop().then(close);
  },
  check: async () => {
    const { port, close } = await realServer();
    const stopped = client(port);
    stopped.start();
    await stopped.whenUp();
    void stopped.check();
    return () => stopped.stop().then(close);
  },
  "back-off": async () => {
    const { port, reached, close } = await tcpServer((socket) => socket.destroy());
    const stopped = client(port);
    stopped.start();
    await reached;
    while (stopped.lastError === undefined) await new Promise((resolve) => setImmediate(resolve));
    return () => stopped.stop().then(close);
  },
  waiting: async () => {
    const { port, reached, close } = await tcpServer();
    const stopped = client(port);
    stopped.start();
    const waiter = stopped.whenUp().catch((error: { code: string }) => error.code);
    await reached;
    return async () => {
      await stopped.stop();
      await close();
      if ((await waiter) !== "shutting-down") throw new Error("whenUp was not told");
    };
  },
};

/** What the process itself has open: its standard streams, and the turn of the loop that looks. */
const OWN = ["PipeWrap", "TTYWrap", "Immediate"];

for (const [phase, enter] of Object.entries(phases)) {
  const stop = await enter();
  await stop();
  // Closed handles leave the list after the loop's next turn.
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  const left = process.getActiveResourcesInfo().filter((kind) => !OWN.includes(kind));
  process.stdout.write(`${phase} ${left.join(",") || "none"}\n`);
}

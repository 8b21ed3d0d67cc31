import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { identityFromPem, silentLogger } from "@isthmus/service";
import { SessionGate, SessionServer } from "@isthmus/session";

// A server in a process of its own, to be killed: argument 1 the key file, argument 2 the port or 0.
// It says its port on standard output once it listens.
const [keyFile, port] = process.argv.slice(2) as [string, string];
const none = { requests: {}, events: {} };
const server = new SessionServer({
  protocol: { toServer: none, toClient: none },
  clientRole: "daemon",
  authorize: () => ({ context: undefined }),
  handlers: none,
  heartbeatMs: 20_000,
});
const gate = new SessionGate({
  role: "isb",
  identity: identityFromPem(readFileSync(keyFile, "utf8")),
  isOwnOrigin: () => true,
  connectRate: { perSecond: 100, burst: 100 },
  maxSessions: 100,
  servers: [server],
  logger: silentLogger(),
});
const http = createServer().on("upgrade", gate.handleUpgrade);
http.listen(Number(port), "127.0.0.1", () => {
  process.stdout.write(`${(http.address() as AddressInfo).port}\n`);
});

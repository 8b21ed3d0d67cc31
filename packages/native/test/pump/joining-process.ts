import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { thePump } from "../../src/pump/index.ts";

/** Joins two connections to a port of this host; ends as it is told when more than a few bytes have passed. */
const [port, how] = process.argv.slice(2);
const sockets = [connect(Number(port), "127.0.0.1"), connect(Number(port), "127.0.0.1")];
for (const socket of sockets) await once(socket, "connect");
const legs = sockets.map((socket) => ({
  fd: (socket as Socket & { _handle: { fd: number } })._handle.fd,
  early: Buffer.alloc(0),
}));
const pump = thePump()!;
const made = pump.join(pump.createAccount(), [legs[0]!, legs[1]!], () => undefined);
for (const socket of sockets) socket.destroy();
setInterval(() => {
  if (made.bytes[0] + made.bytes[1] < 8) return;
  if (how === "exit") process.exit();
  pump.resetAll();
}, 5);
if (how === "resetAll") setTimeout(() => process.exit(), 5000);

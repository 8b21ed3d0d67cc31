/**
 * `node sending-process.ts ADDON`: sends datagrams from a socket of the add-on to another and back, and says what came.
 * All of it must come, in its order, each to its own; then many sockets are opened and closed with datagrams under way.
 */
import { createRequire } from "node:module";
import type { Addon } from "../../src/addon.ts";
import { NativeUdpSockets } from "../../src/udp/native-sockets.ts";
import type { UdpAddress, UdpConnection } from "../../src/udp/sockets.ts";

const HOST = "127.0.0.1";
const CLIENTS = 3;
const ROUNDS = 40;
const BURST = 20;

const { udp } = createRequire(import.meta.url)(process.argv[2]!) as Addon;
const sockets = new NativeUdpSockets(udp);

const bound = await sockets.bind({ host: HOST, port: 0 }, (datagram, from) => bound.send(datagram, from));

function connect(to: UdpAddress, datagram: (datagram: Buffer) => void): Promise<UdpConnection> {
  return new Promise((resolve) => {
    const connection: UdpConnection = sockets.connect(to, { datagram, ready: () => resolve(connection) });
  });
}

/** Sizes that go together, that do not, and none. */
const text = (client: number, n: number): string => `${client} ${n} `.padEnd(n % 7 === 0 ? 1200 : n % 40, "x");

const heard: string[][] = [];
const clients: UdpConnection[] = [];
for (let c = 0; c < CLIENTS; c++) {
  const mine: string[] = [];
  heard.push(mine);
  clients.push(await connect({ host: HOST, port: bound.port }, (datagram) => mine.push(datagram.toString())));
}
for (let round = 1; round <= ROUNDS; round++) {
  for (let n = (round - 1) * BURST; n < round * BURST; n++) {
    for (const [c, client] of clients.entries()) client.send(Buffer.from(text(c, n)));
  }
  const deadline = performance.now() + 10_000;
  while (heard.some((one) => one.length < round * BURST)) {
    if (performance.now() > deadline) throw new Error(`round ${round}: ${heard.map((one) => one.length)}`);
    await new Promise(setImmediate);
  }
}
for (const [c, mine] of heard.entries()) {
  for (const [n, one] of mine.entries()) if (one !== text(c, n)) throw new Error(`client ${c}: ${n} is ${one}`);
}

for (let n = 0; n < 100; n++) {
  const one = await connect({ host: HOST, port: bound.port }, () => one.close());
  clients.push(one);
  for (let sent = 0; sent < 100; sent++) one.send(Buffer.alloc(sent));
  if (n % 2 === 0) one.close();
}
await new Promise(setImmediate);
bound.close();
for (const client of clients) client.close();
console.log("ok");

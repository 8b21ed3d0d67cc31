/**
 * A TCP port forwarding over HyperDHT, in three programs:
 *
 *   hyperdht.js network ADDRESS PORT                  says `ready`: the DHT itself, of some nodes on a public host
 *   hyperdht.js provide ADDRESS PORT SERVICE_PORT     says `ready KEY`; connections go to the service on the loopback address
 *   hyperdht.js subscribe ADDRESS PORT KEY LISTEN     says `ready`; takes connections on the loopback address
 */
import { connect, createServer } from "node:net";
import DHT from "hyperdht";

/** A DHT with fewer does not answer. */
const NODES = 4;

const COMMANDS = { network, provide, subscribe };
const [command, ...words] = process.argv.slice(2);
process.stdout.write(`ready ${await COMMANDS[command](...words)}\n`);

async function network(host, port) {
  for (let n = 0; n < NODES; n++) {
    const bootstrap = n === 0 ? [] : [`${host}:${port}`];
    const node = new DHT({ ephemeral: false, firewalled: false, bootstrap, host, port: Number(port) + n });
    await node.fullyBootstrapped();
  }
  return "";
}

async function provide(host, port, service) {
  const server = new DHT({ bootstrap: [`${host}:${port}`] }).createServer((stream) =>
    join(stream, connect(Number(service), "127.0.0.1")),
  );
  await server.listen(DHT.keyPair());
  return server.publicKey.toString("hex");
}

async function subscribe(host, port, key, listen) {
  const dht = new DHT({ bootstrap: [`${host}:${port}`] });
  const server = createServer((socket) => join(dht.connect(Buffer.from(key, "hex")), socket));
  await new Promise((resolve) => server.listen(Number(listen), "127.0.0.1", resolve));
  return "";
}

function join(stream, socket) {
  stream.on("error", () => socket.destroy());
  socket.on("error", () => stream.destroy());
  socket.on("close", () => stream.destroy());
  stream.on("close", () => socket.destroySoon());
  stream.pipe(socket);
  socket.pipe(stream);
}

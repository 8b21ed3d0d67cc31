/**
 * A TCP port forwarding over js-libp2p's circuit relay (v2), in three programs:
 *
 *   libp2p.js relay ADDRESS PORT               says `ready MULTIADDRESS`
 *   libp2p.js provide RELAY SERVICE_PORT       says `ready PEER`; connections go to the service on the loopback address
 *   libp2p.js subscribe RELAY PEER LISTEN_PORT says `ready`; takes connections on the loopback address
 */
import { connect, createServer } from "node:net";
import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { circuitRelayServer, circuitRelayTransport } from "@libp2p/circuit-relay-v2";
import { identify } from "@libp2p/identify";
import { tcp } from "@libp2p/tcp";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";

const PROTOCOL = "/isthmus-bench/1";
const MOST_STREAMS = 1000;

const COMMANDS = { relay, provide, subscribe };
const [command, ...words] = process.argv.slice(2);
process.stdout.write(`ready ${await COMMANDS[command](...words)}\n`);

function nodeWith({ listen = [], announce = [], services = {} }) {
  return createLibp2p({
    addresses: { listen, announce },
    transports: [tcp(), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // The addresses of a laboratory are nobody's.
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify(), ...services },
  });
}

async function relay(address, port) {
  // Its limits are for relays that are free for all.
  const services = { relay: circuitRelayServer({ reservations: { applyDefaultLimit: false } }) };
  const own = `/ip4/${address}/tcp/${port}`;
  const node = await nodeWith({ listen: [own], announce: [own], services });
  return `${own}/p2p/${node.peerId}`;
}

async function provide(relayAddress, port) {
  const node = await nodeWith({ listen: [`${relayAddress}/p2p-circuit`] });
  await node.handle(PROTOCOL, (stream) => join(stream, connect(Number(port), "127.0.0.1")), {
    maxInboundStreams: MOST_STREAMS,
    runOnLimitedConnection: true,
  });
  return node.peerId;
}

async function subscribe(relayAddress, peer, port) {
  const node = await nodeWith({});
  const provider = multiaddr(`${relayAddress}/p2p-circuit/p2p/${peer}`);
  const options = { maxOutboundStreams: MOST_STREAMS, runOnLimitedConnection: true };
  await node.dial(provider);
  const server = createServer({ pauseOnConnect: true }, async (socket) => {
    try {
      join(await node.dialProtocol(provider, PROTOCOL, options), socket);
    } catch (error) {
      socket.destroy(error);
    }
  });
  await new Promise((resolve) => server.listen(Number(port), "127.0.0.1", resolve));
  return "";
}

function join(stream, socket) {
  socket.on("error", () => undefined);
  socket.setNoDelay(true);
  stream.addEventListener("message", ({ data }) => {
    if (socket.write(data.subarray())) return;
    stream.pause();
    socket.once("drain", () => stream.resume());
  });
  stream.addEventListener("end", () => socket.end());
  stream.addEventListener("close", () => socket.destroySoon());
  socket.on("data", (bytes) => {
    if (stream.status !== "open" || stream.send(bytes)) return;
    socket.pause();
    stream.addEventListener("drain", () => socket.resume(), { once: true });
  });
  socket.on("end", () => stream.close().catch(() => undefined));
  socket.on("close", () => stream.abort(new Error("the socket is closed")));
  socket.resume();
}

import { join } from "node:path";
import { NODE, type TwoHomes } from "@isthmus/e2e";
import type { Node, Program } from "@isthmus/lab";
import { type Path, READY_MS } from "./path.ts";

const FOLDER = join(import.meta.dirname, "../../peers");
const LIBP2P_PORT = 7300;
/** Of the DHT's first node; the others are behind it. */
const DHT_PORT = 49_737;

/** Starts a rival from npm. @returns it, and what it says when it is ready */
async function startPeer(node: Node, name: string, words: readonly (string | number)[]): Promise<[Program, string]> {
  const program = node.spawn(NODE, [join(FOLDER, `${name}.js`), ...words.map(String)], { name, cwd: FOLDER });
  const [, answer = ""] = await program.waitForOutput(/^ready (.*)$/m, READY_MS);
  return [program, answer];
}

interface Options {
  /** A public host, which relays, or makes homes known to each other. */
  relay: Node;
  port: number;
  listen: number;
}

/** js-libp2p: from the provider to a relay that it has a reservation at, encrypted from end to end. */
export async function libp2pPath({ alice, bob }: TwoHomes, { relay, port, listen }: Options): Promise<Path> {
  const [server, address] = await startPeer(relay, "libp2p", ["relay", relay.ipv4, LIBP2P_PORT]);
  const [provider, peer] = await startPeer(bob.node, "libp2p", ["provide", address, port]);
  const [subscriber] = await startPeer(alice.node, "libp2p", ["subscribe", address, peer, listen]);
  return { name: "js-libp2p circuit relay", host: "127.0.0.1", port: listen, programs: [subscriber, server, provider] };
}

/** HyperDHT: holes are punched into both NATs, so that nothing is between the homes; encrypted. */
export async function hyperdhtPath({ alice, bob }: TwoHomes, { relay, port, listen }: Options): Promise<Path> {
  const network = [relay.ipv4, DHT_PORT];
  const [nodes] = await startPeer(relay, "hyperdht", ["network", ...network]);
  const [provider, key] = await startPeer(bob.node, "hyperdht", ["provide", ...network, port]);
  const [subscriber] = await startPeer(alice.node, "hyperdht", ["subscribe", ...network, key, listen]);
  return { name: "HyperDHT, direct", host: "127.0.0.1", port: listen, programs: [subscriber, nodes, provider] };
}

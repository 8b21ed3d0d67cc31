import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TwoHomes, until } from "@isthmus/e2e";
import type { Node, Program } from "@isthmus/lab";
import { forwardPort } from "../homes.ts";
import { type Path, READY_MS } from "./path.ts";

/** Where each of them listens. */
const PORT = 7000;

/**
 * Three HAProxies in the places of daemon, IST and daemon. The provider's router must let the middle one in: it has a
 * port forwarding, which Isthmus does without.
 */
export async function haproxyPath(
  homes: TwoHomes,
  options: { relay: Node; port: number; listen: number },
): Promise<Path> {
  const { alice, bob } = homes;
  const { relay, port, listen } = options;
  const router = await forwardPort(homes, PORT);
  const programs = await Promise.all([
    startHaproxy(alice.node, `127.0.0.1:${listen}`, `${relay.ipv4}:${PORT}`),
    startHaproxy(relay, `${relay.ipv4}:${PORT}`, `${router}:${PORT}`),
    startHaproxy(bob.node, `${bob.node.ipv4}:${PORT}`, `127.0.0.1:${port}`),
  ]);
  return { name: "three HAProxies", host: "127.0.0.1", port: listen, programs };
}

/** A relay of TCP that copies nothing: what comes at `listen` goes to `next`, both HOST:PORT. */
export function haproxyConfiguration(listen: string, next: string): string {
  return `global
  maxconn 5000
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen forward
  bind ${listen}
  server next ${next}
`;
}

async function startHaproxy(node: Node, listen: string, next: string): Promise<Program> {
  const file = join(node.folder, "haproxy.cfg");
  writeFileSync(file, haproxyConfiguration(listen, next));
  const program = node.spawn("haproxy", ["-db", "-f", file], { name: "haproxy" });
  await untilListening(node, listen);
  return program;
}

/** Waits until something on the node takes TCP connections there. */
export function untilListening(node: Node, address: string): Promise<true> {
  return until(
    `${address} on ${node.name} is open`,
    async () => {
      const sockets = await node.read("ss", ["-Hltn"]);
      return sockets.split("\n").some((line) => line.split(/\s+/)[3] === address) ? true : undefined;
    },
    READY_MS,
  );
}

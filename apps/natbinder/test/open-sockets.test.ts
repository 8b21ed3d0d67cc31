import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";
import { SocketWatch, socketsUnavailable } from "@isthmus/native/sockets";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { OpenSockets } from "../src/open-sockets.ts";
import { skipAll } from "./natbinder-at.ts";

const PORTS = 40;
const WAIT = { timeout: 15_000, interval: 20 };

async function listenAt(port = 0): Promise<Server> {
  const server = createServer((socket) => socket.on("error", () => undefined).resume());
  onTestFinished(() => void server.close());
  server.listen({ port, host: "127.0.0.1", reusePort: true });
  await once(server, "listening");
  return server;
}

function portOf(server: Server): number {
  return (server.address() as { port: number }).port;
}

function openSockets(): { open: OpenSockets; closed: string[] } {
  const closed: string[] = [];
  const open = new OpenSockets({ onClosed: (owner) => closed.push(owner), onMissed: () => undefined });
  onTestFinished(() => open.close());
  return { open, closed };
}

describe("the sockets of this host", () => {
  skipAll(socketsUnavailable);

  it("owners whose ports nobody listens at any more are told of, and a few lists are enough for many of them", async () => {
    const { open, closed } = openSockets();
    const servers = await Promise.all(Array.from({ length: PORTS }, () => listenAt()));
    const kept = await listenAt();
    const partner = await listenAt(portOf(kept));
    for (const server of [...servers, kept]) open.add(`mptcp ${portOf(server)}`, portOf(server));
    const owners = servers.map((server) => `mptcp ${portOf(server)}`).sort();
    const lists = vi.spyOn(SocketWatch.prototype, "open");
    onTestFinished(() => lists.mockRestore());
    for (const server of [...servers, partner]) server.close();
    await expect.poll(() => closed.filter((owner) => owner.startsWith("mptcp ")).sort(), WAIT).toEqual(owners);
    expect(lists.mock.calls.length).toBeLessThan(PORTS);
  });

  it("what is left of a connection is none of them", async () => {
    const { open } = openSockets();
    const server = await listenAt();
    const client = connect(portOf(server), "127.0.0.1");
    await once(client, "connect");
    const { localPort } = client;
    const ports = async () => (await open.list()).tcp.filter(({ port }) => port === localPort).length;
    expect(await ports()).toBe(1);
    client.end();
    await once(client, "close");
    await expect.poll(ports, WAIT).toBe(0);
  });
});

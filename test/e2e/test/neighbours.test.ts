import { type Daemon, Deployment, NODE, portOf, until } from "@isthmus/e2e";
import { Lab, type Node } from "@isthmus/lab";
import { expect, it } from "vitest";
import { EchoClient, EchoServer } from "./fixtures/echo.ts";
import type { HammerReport } from "./fixtures/hammer.ts";
import { fixture } from "./fixtures/peers.ts";

const STREAM_ENDPOINT = 443;
const SECONDS = 8;
const CONNECTIONS = 250;

/** What clients and server say to each other. */
const ECHOED_TEXT = /\d [0-9a-f]{128}/;

/** Ports of the cells that a daemon has been told of, out of its log. */
function cellPorts({ program }: Daemon): number[] {
  const lines = program.output.since(0).matchAll(/"cells":(\[\{[^\]]*\])/g);
  const cells = [...lines].flatMap(([, text]) => JSON.parse(text!) as { port: number }[]);
  return [...new Set(cells.map(({ port }) => port))];
}

async function hammer(node: Node, host: string, ports: number[]): Promise<HammerReport> {
  const args = [fixture("hammer"), host, SECONDS, ...ports].map(String);
  return JSON.parse(await node.read(NODE, args, { timeoutMs: 60_000 })) as HammerReport;
}

it("a neighbour behind the same address and a stranger cost time at the most, and learn nothing", async () => {
  await using lab = await Lab.create();
  const [isb, ist, stranger] = await Promise.all([
    lab.host("isb"),
    lab.host("ist"),
    lab.host("stranger"),
    lab.home({ name: "home-a", nat: "port-restricted", hosts: ["alice", "carol", "mallory"] }),
    lab.home({ name: "home-b", nat: "port-restricted", hosts: ["bob"] }),
  ]);
  const deployment = await Deployment.start({ isb, ists: [ist] });
  const [alice, carol, bob] = await Promise.all(
    ["alice", "carol", "bob"].map((user) => deployment.daemon(lab.node(user), { user })),
  );
  if (!alice || !carol || !bob) throw new Error("three daemons were started");
  const server = await EchoServer.start(bob.node, 7000);
  const target = "127.0.0.1:7000";
  await bob.provide("echo", "--tcp", target, "--udp", target, "--allow", "alice", "--allow", "carol");
  const ports = await Promise.all(
    [alice, carol].map(async (daemon) => {
      const subscription = await daemon.subscribe("echo@bob");
      await until("joined at cells", async () => {
        const { subscriptions } = await daemon.status();
        return subscriptions[0]?.tcp?.path === "cell" ? true : undefined;
      });
      return portOf(subscription);
    }),
  );
  const targets = [STREAM_ENDPOINT, ...[alice, carol, bob].flatMap(cellPorts)];
  expect(targets.length).toBeGreaterThan(6);

  const attacks = Promise.all([
    hammer(lab.node("mallory"), ist.ipv4, targets),
    hammer(stranger, ist.ipv4, targets),
    hammer(stranger, isb.ipv4, [7443]),
  ]);
  const reports = await Promise.all(
    [alice, carol].map(({ node }, user) =>
      EchoClient.inTurn(node, ports[user]!, { count: CONNECTIONS, workers: 4 }).report(120_000),
    ),
  );
  for (const report of reports) expect(report).toMatchObject({ whole: CONNECTIONS, failures: {} });
  const [mallory, foreigner, atIsb] = await attacks;
  for (const { connections, datagrams, heard } of [mallory, foreigner, atIsb]) {
    expect(connections).toBeGreaterThan(50);
    expect(datagrams).toBeGreaterThan(50);
    expect(heard).not.toMatch(ECHOED_TEXT);
  }
  // Whoever is not expected at a cell hears nothing at all; only the stream endpoint speaks to anybody, in TLS.
  expect(await deployment.ist.metric('isthmus_ist_packets_dropped_total{reason="stranger"}')).toBeGreaterThan(0);

  // Nothing is left of it.
  const after = await Promise.all(
    [alice, carol].map(({ node }, user) => EchoClient.inTurn(node, ports[user]!, { count: 20, workers: 1 }).report()),
  );
  for (const report of after) expect(report).toMatchObject({ whole: 20, failures: {} });
  await expect.poll(async () => (await server.counts()).open, { timeout: 15_000 }).toBe(0);
}, 180_000);

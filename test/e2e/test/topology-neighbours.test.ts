import { type Daemon, Deployment, NODE, portOf } from "@isthmus/e2e";
import { Lab, type Node } from "@isthmus/lab";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allWhole, EchoClient, EchoServer } from "./fixtures/echo.ts";
import { fixture } from "./fixtures/peers.ts";
import { Traffic } from "./fixtures/traffic.ts";

/** Where an IST's cells are. */
const CELL_PORTS = ["20000", "32767"];
/** A piece of what each connection of the echo clients says, which is all in hexadecimal digits. */
const PLAIN_TEXT = /[0-9a-f]{16}/;

interface Report {
  connections: number;
  datagrams: number;
  heard: string;
}

describe("anna, ben and mallory behind one public address", () => {
  let lab: Lab;
  let deployment: Deployment;
  let anna: { daemon: Daemon; port: number };
  let ben: { daemon: Daemon; port: number };

  beforeAll(async () => {
    lab = await Lab.create();
    const [isb, ist] = await Promise.all([
      lab.host("isb"),
      lab.host("ist"),
      lab.home({ name: "theirs", nat: "port-restricted", hosts: ["anna", "ben", "mallory"] }),
      lab.home({ name: "carols", nat: "port-restricted", hosts: ["carol"] }),
    ]);
    deployment = await Deployment.start({ isb, ists: [ist] });
    const [carol, ...users] = await Promise.all(
      ["carol", "anna", "ben"].map((user) => deployment.daemon(lab.node(user), { user })),
    );
    await EchoServer.start(lab.node("carol"), 7000);
    const target = "127.0.0.1:7000";
    await carol!.provide("echo", "--tcp", target, "--udp", target, "--allow", "anna", "--allow", "ben");
    const subscribed = users.map(async (daemon) => ({ daemon, port: portOf(await daemon.subscribe("echo@carol")) }));
    [anna, ben] = (await Promise.all(subscribed)) as [typeof anna, typeof ben];
  });

  afterAll(async () => {
    await lab?.destroy();
  });

  it("two users of one service never meet each other's bytes", async () => {
    const clients = [anna, ben].flatMap(({ daemon, port }) => [
      EchoClient.atOnce(daemon.node, port, 300),
      EchoClient.inTurn(daemon.node, port, { count: 300, workers: 8 }),
    ]);
    for (const client of clients.filter((_, index) => index % 2 === 0)) {
      await client.allOpen();
      client.end();
    }

    const reports = await Promise.all(clients.map((client) => client.report()));
    expect(reports).toEqual(Array.from(clients, () => allWhole(300)));
  });

  it("a neighbour who talks nonsense to all cells keeps nobody from anything, and learns nothing", async () => {
    const traffic = await Traffic.start(anna.daemon.node, anna.port, ["udp"]);
    const mallory = startMallory(lab.node("mallory"), deployment.ist.node.ipv4);
    const [, text] = await mallory.waitForOutput(/^\{"ports":(.*)\}$/m, 60_000);
    const ports = JSON.parse(text!) as number[];

    const since = Date.now();
    const clients = [anna, ben].map(({ daemon, port }) =>
      EchoClient.inTurn(daemon.node, port, { count: 200, workers: 4 }),
    );
    const reports = await Promise.all(clients.map((client) => client.report(90_000)));
    mallory.stdin.write("\n");
    const [, said] = await mallory.waitForOutput(/^\{"report":(.*)\}$/m);
    const { connections, datagrams, heard } = JSON.parse(said!) as Report;
    await traffic.stop();

    const bytes = Buffer.from(heard, "base64");
    expect(reports).toEqual([allWhole(200), allWhole(200)]);
    // Two allocations with at least one cell for each opener, and two sides of each.
    expect(ports.length).toBeGreaterThanOrEqual(8);
    expect(connections).toBeGreaterThan(50);
    expect(datagrams).toBeGreaterThan(50);
    expect(bytes.toString("latin1")).not.toMatch(PLAIN_TEXT);
    expect(traffic.failuresSince(since)).toEqual([]);
  });
});

function startMallory(node: Node, ist: string) {
  return node.spawn(NODE, [fixture("neighbour"), ist, ...CELL_PORTS], { name: "mallory", stdin: "pipe" });
}

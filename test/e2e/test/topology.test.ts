import { Deployment, portOf } from "@isthmus/e2e";
import { type HomeOptions, Lab } from "@isthmus/lab";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allWhole, EchoClient, EchoServer } from "./fixtures/echo.ts";
import { exercise, type Paths } from "./fixtures/exercise.ts";
import { newPair } from "./fixtures/pairs.ts";

/** Connections of each kind and user. */
const EACH = 250;

/** Where a firewall lets nothing else out. */
const HTTPS = ["--listen", "[::]:443"];

interface Case {
  name: string;
  subscriber?: Partial<HomeOptions>;
  provider?: Partial<HomeOptions>;
  /** By cells unless told otherwise. */
  paths?: Paths;
}

const CELLS = { tcp: "cell", udp: "cell" };
const STREAM = { tcp: "stream", udp: "stream" };
const EITHER = {
  tcp: expect.stringMatching(/^(cell|stream)$/),
  udp: expect.stringMatching(/^(cell|stream)$/),
} as Paths;

const CASES: Case[] = [
  { name: "symmetric NATs", subscriber: { nat: "symmetric" }, provider: { nat: "symmetric" } },
  {
    name: "symmetric NATs that count ports up",
    subscriber: { nat: "symmetric-sequential" },
    provider: { nat: "symmetric-sequential" },
  },
  { name: "full cones", subscriber: { nat: "full-cone" }, provider: { nat: "full-cone" } },
  {
    // An address that the IST has not seen yet is no stranger at its stream endpoint alone.
    name: "pools of three addresses",
    subscriber: { nat: "pool" },
    provider: { nat: "pool" },
    paths: EITHER,
  },
  {
    name: "a firewall before the subscriber that passes only TCP to port 443",
    subscriber: { firewall: "https-only" },
    paths: STREAM,
  },
  {
    name: "firewalls before both that pass only TCP to port 443",
    subscriber: { firewall: "https-only" },
    provider: { firewall: "https-only" },
    paths: STREAM,
  },
  {
    name: "a firewall before the provider that passes no UDP",
    provider: { firewall: "no-udp" },
    paths: { tcp: "cell", udp: "stream" },
  },
  {
    name: "IPv6 alone, behind firewalls",
    subscriber: { nat: "none", firewall: "stateful", ipv4: false, ipv6: true },
    provider: { nat: "none", firewall: "stateful", ipv4: false, ipv6: true },
  },
  {
    name: "IPv4 behind a NAT, and IPv6 alone",
    provider: { nat: "none", firewall: "stateful", ipv4: false, ipv6: true },
  },
];

let lab: Lab;
let deployment: Deployment;

beforeAll(async () => {
  lab = await Lab.create();
  const [isb, ist] = await Promise.all([lab.host("isb"), lab.host("ist")]);
  deployment = await Deployment.start({ isb, ists: [ist], isbFlags: HTTPS });
});

afterAll(async () => {
  await lab?.destroy();
});

describe.concurrent("connections and datagrams pass between homes", () => {
  it.each(CASES.map((one, index) => ({ ...one, index })))("with $name", async ({ index, ...options }) => {
    const pair = await newPair(lab, deployment, { ...options, name: `t${index}` });

    const paths = await exercise(pair.subscriber.daemon, pair.port);

    expect(paths).toEqual(options.paths ?? CELLS);
  });

  it("of the same private subnet and addresses", async () => {
    const { subscriber, provider, port } = await newPair(lab, deployment, { name: "same" });

    expect(await exercise(subscriber.daemon, port)).toEqual(CELLS);

    expect(subscriber.home.host.ipv4).toMatch(/^192\.168\./);
    expect(provider.home.host.ipv4).toBe(subscriber.home.host.ipv4);
  });

  it("behind a carrier's NAT as well as their own", async () => {
    const carrier = await lab.home({ name: "carrier", nat: "symmetric", hosts: 0, subnet: "100.64.0.0/24" });
    const pair = await newPair(lab, deployment, {
      name: "double",
      subscriber: { behind: carrier },
      provider: { behind: carrier },
    });

    expect(await exercise(pair.subscriber.daemon, pair.port)).toEqual(CELLS);
  });
});

it("two users behind one address never meet each other's bytes", async () => {
  await using lab = await Lab.create();
  const [isb, ist, theirs, carols] = await Promise.all([
    lab.host("isb"),
    lab.host("ist"),
    lab.home({ name: "theirs", nat: "port-restricted", hosts: ["anna", "ben"] }),
    lab.home({ name: "carols", nat: "port-restricted", hosts: ["carol"] }),
  ]);
  const deployment = await Deployment.start({ isb, ists: [ist] });
  const [carol, ...users] = await Promise.all(
    [...carols.hosts, ...theirs.hosts].map((node) => deployment.daemon(node, { user: node.name })),
  );
  const server = await EchoServer.start(carols.host, 7000);
  await carol!.provide("echo", "--tcp", `127.0.0.1:${server.port}`, "--allow", "anna", "--allow", "ben");
  const ports = await Promise.all(users.map(async (daemon) => portOf(await daemon.subscribe("echo@carol"))));

  const atOnce = users.map(({ node }, user) => EchoClient.atOnce(node, ports[user]!, EACH));
  const inTurn = users.map(({ node }, user) => EchoClient.inTurn(node, ports[user]!, { count: EACH, workers: 8 }));
  for (const client of atOnce) await client.allOpen();
  for (const client of atOnce) client.end();

  const reports = await Promise.all([...atOnce, ...inTurn].map((client) => client.report()));
  expect(reports).toEqual(Array.from(reports, () => allWhole(EACH)));
  await expect.poll(() => server.counts()).toEqual({ taken: reports.length * EACH, open: 0 });
});

it("an ISB with an IST in its process is all that two homes need", async () => {
  await using lab = await Lab.create();
  const isb = await lab.host("both");
  const deployment = await Deployment.start({ isb, ists: [], isbFlags: ["--with-ist"] });
  const pair = await newPair(lab, deployment, { name: "both" });

  expect(await exercise(pair.subscriber.daemon, pair.port)).toEqual(CELLS);

  expect(await deployment.isb.metric("isthmus_ist_sessions")).toBe(2);
});

import { rmSync } from "node:fs";
import { join } from "node:path";
import { appProgram, Deployment, Nginx, NODE, ownFolder, portOf, startDnsmasq, until } from "@isthmus/e2e";
import { type HomeOptions, Lab, type Node, ORDINARY_UID } from "@isthmus/lab";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EndlessEcho } from "../vm/endless-echo.ts";
import { newPair, type Pair } from "./fixtures/pairs.ts";

const MIB = 1024 * 1024;
const BYTES = 256 * MIB;
/** What sessions, and the questions of this test, cost beside a transfer. */
const SMALL_BYTES = 16 * MIB;
const TRANSFER_MS = 100_000;
const user = { uid: ORDINARY_UID };

const HOMES = {
  pure: { nat: "port-restricted" },
  passive: { nat: "symmetric" },
  six: { nat: "none", firewall: "stateful", ipv4: false, ipv6: true },
} as const satisfies Record<string, Partial<HomeOptions>>;
type Kind = keyof typeof HOMES;
const KINDS = Object.keys(HOMES) as Kind[];

let lab: Lab;
let relay: Node;
let deployment: Deployment;
let pairs: Record<Kind, Pair>;

/** Unmodified programs at both ends, and an IST that splices in BPF programs. */
beforeAll(async () => {
  lab = await Lab.create();
  const isb = await lab.host("isb");
  relay = await lab.host("ist");
  deployment = await Deployment.start({
    isb,
    ists: [relay],
    istFlags: ["--data-path", "ebpf"],
    env: { ISTHMUS_IST_LOAD_SECONDS: "0.5" },
  });
  const made = Object.entries(HOMES).map(async ([kind, home]) => {
    return [kind, await newPair(lab, deployment, { name: kind, subscriber: home, provider: home })] as const;
  });
  pairs = Object.fromEntries(await Promise.all(made)) as Record<Kind, Pair>;
  for (const kind of KINDS) await meetsAtCell(kind);
});

afterAll(async () => {
  await lab?.destroy();
});

/** Which way new connections of the pair take, in the words of `isthmus explain`. */
async function wayOf(kind: Kind): Promise<string> {
  const { subscriptions } = await pairs[kind].subscriber.daemon.status();
  const { path, detail } = subscriptions[0]!.tcp;
  return `${path}: ${detail}`;
}

/** Waits until new connections of the pair work, and meet at a cell. */
async function meetsAtCell(kind: Kind): Promise<void> {
  const { subscriber, port } = pairs[kind];
  await until(`${kind} meets at a cell`, async () => {
    const works = await EndlessEcho.works(subscriber.daemon.node, port);
    return (works && (await wayOf(kind)).startsWith("cell")) || undefined;
  });
}

/** Makes a port of the provider's 127.0.0.1 a service, and returns the subscriber's port of it. */
async function serve(kind: Kind, name: string, port: number, channels: ("tcp" | "udp")[], ...consent: string[]) {
  const { subscriber, provider } = pairs[kind];
  const targets = channels.flatMap((channel) => [`--${channel}`, `127.0.0.1:${port}`]);
  await provider.daemon.provide(name, ...targets, ...consent, "--allow", subscriber.daemon.user);
  return portOf(await subscriber.daemon.subscribe(`${name}@${provider.daemon.user}`, ...consent));
}

/** Connections of all pairs, whose bytes go both ways. */
async function echoes(): Promise<EndlessEcho[]> {
  const started = await Promise.all(
    KINDS.map((kind) => EndlessEcho.start(pairs[kind].subscriber.daemon.node, pairs[kind].port)),
  );
  for (const echo of started) await echo.moves();
  return started;
}

async function allWhole(started: EndlessEcho[]): Promise<void> {
  for (const echo of started) await echo.moves();
  expect(await Promise.all(started.map((echo) => echo.end()))).toEqual(started.map(() => "whole"));
}

const cellBytes = () => deployment.ist.metric('isthmus_ist_bytes_total{at="cell"}');

/** What the IST's process read and wrote. */
async function processBytes(): Promise<number> {
  const text = await relay.script(`cat /proc/${deployment.ist.program.pid}/io`);
  return [...text.matchAll(/^[rw]char: (\d+)$/gm)].reduce((sum, [, number]) => sum + Number(number), 0);
}

describe("curl", () => {
  it.each([
    ["pure", /^cell: .*Pure Splices/],
    ["passive", /^cell: .*Passive Splices/],
    ["six", /^cell: /],
  ] as const)("%s: much comes unchanged both ways at once, and none through the IST's process", async (kind, way) => {
    const { subscriber, provider } = pairs[kind];
    const web = await Nginx.start(provider.daemon.node, 8080);
    const file = join(ownFolder(lab.internet.node, "files"), kind);
    await lab.internet.node.read("sh", ["-c", `head -c ${BYTES} /dev/urandom >${file}`], { timeoutMs: TRANSFER_MS });
    await provider.daemon.node.read("ln", [file, join(web.site, "file")]);
    const port = await serve(kind, "web", web.port, ["tcp"], "--plain");
    const origin = `http://127.0.0.1:${port}`;
    const sh = (script: string) =>
      subscriber.daemon.node.read("bash", ["-eo", "pipefail", "-c", script], { ...user, timeoutMs: TRANSFER_MS });
    await until("both have joined", async () => {
      await sh(`curl -sSf -o /dev/null -r 0-0 ${origin}/file`);
      return way.test(await wayOf(kind)) || undefined;
    });
    const before = { cell: await cellBytes(), process: await processBytes() };

    const download = sh(`curl -sSf ${origin}/file | sha256sum`);
    // An allocation rests at one cell for each side: a second open at the same moment meets at the stream endpoint.
    await until("the download moves", async () => (await cellBytes()) - before.cell > MIB || undefined);
    const [downloaded] = await Promise.all([download, sh(`curl -sSf -T ${file} ${origin}/uploaded`)]);

    const sums = await lab.internet.node.read("sha256sum", [file, join(web.site, "uploaded")]);
    rmSync(join(web.site, "uploaded"));
    rmSync(file);
    const [digest] = sums.split(" ");
    expect([downloaded, sums.split("\n")[1]!].map((text) => text.split(" ")[0])).toEqual([digest, digest]);
    await until("all is counted", async () => (await cellBytes()) - before.cell >= 2 * BYTES || undefined);
    expect((await processBytes()) - before.process).toBeLessThan(SMALL_BYTES);
  });
});

it.each(["pure", "six"] as const)("dig asks a name server over UDP and over TCP (%s)", async (kind) => {
  const { subscriber, provider } = pairs[kind];
  await startDnsmasq(provider.daemon.node, 5353, { addresses: { "printer.example": "192.0.2.53" }, texts: {} });
  const port = await serve(kind, "dns", 5353, ["tcp", "udp"]);
  for (const more of [[], ["+tcp"]]) {
    const args = ["@127.0.0.1", "-p", String(port), "+tries=3", "+time=5", "+short", ...more, "printer.example"];
    expect(await subscriber.daemon.node.read("dig", args, { ...user, timeoutMs: 40_000 })).toBe("192.0.2.53\n");
  }
});

it.each(KINDS)("a narrow link behind a router is told to the sender (%s)", async (kind) => {
  const { subscriber, provider, port } = pairs[kind];
  // Nobody but the router knows: the host behind it offers full segments.
  await provider.home.router.script("ip link set lan mtu 1400");
  const echo = await EndlessEcho.start(subscriber.daemon.node, port);
  await echo.moves();
  expect(await echo.end()).toBe("whole");
  expect((await wayOf(kind)).startsWith("cell")).toBe(true);
  await provider.home.router.script("ip link set lan mtu 1500");
});

it("the hardware address of the IST's neighbour changes: connections go on", async () => {
  const started = await echoes();
  const { node } = lab.internet;
  const device = /dev (\S+)/.exec(await node.read("ip", ["route", "get", relay.ipv4]))![1]!;
  await node.read("ip", ["link", "set", device, "address", "02:00:00:00:be:ef"]);
  // A laboratory's hosts know their neighbours for good; this one has to ask from now on.
  await relay.script("ip neigh flush nud permanent; ip -6 neigh flush nud permanent");
  await allWhole(started);
  for (const kind of KINDS) await meetsAtCell(kind);
});

describe("the control plane", () => {
  it("is killed and comes back: connections go on meanwhile, and new ones are made afterwards", async () => {
    const started = await echoes();
    const { ist } = deployment;
    await ist.kill();
    for (const echo of started) await echo.moves();
    await ist.start();
    await ist.ready();
    await allWhole(started);
    for (const kind of KINDS) await meetsAtCell(kind);
    expect(await ist.status()).toContain("data path  ebpf: the configuration asks for it\n");
  });

  it("attaches the programs again when somebody took them off: cells work again", async () => {
    const { output } = deployment.ist.program;
    const from = output.position;
    const devices = (await relay.script("ip -o link | cut -d: -f2 | cut -d@ -f1")).trim().split(/\s+/);
    for (const device of devices) await relay.script(`tc qdisc del dev ${device} clsact`);
    await deployment.ist.program.waitForOutput(/takes packets of this interface/, 20_000, from);
    for (const kind of KINDS) await meetsAtCell(kind);
  });

  it("does not start where another program filters an interface's packets, and says why", async () => {
    const { node } = deployment.isb;
    await node.script("tc qdisc add dev lo clsact && tc filter add dev lo ingress bpf bytecode '1,6 0 0 0'");
    const args = [appProgram("ist"), "--data", join(node.folder, "other"), "--name", "other", "--data-path", "ebpf"];
    const { code, stderr } = await node.run(NODE, args, { timeoutMs: 30_000 });
    await node.script("tc qdisc del dev lo clsact");
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringContaining(
        "the BPF data path cannot be used: another program filters the incoming packets of interface lo (tc)\n",
      ),
    });
  });
});

it("no checksum was wrong anywhere", async () => {
  const wrong = await Promise.all(
    [...lab.nodes.values()].map(async (node) => {
      const text = await node.script("nstat -asz | awk '/CsumErr/ && $2 > 0'");
      return text === "" ? [] : [`${node.name}: ${text}`];
    }),
  );
  expect(wrong.flat()).toEqual([]);
});

import { rmSync } from "node:fs";
import { join } from "node:path";
import { appProgram, Deployment, Nginx, NODE, ownFolder, startDnsmasq, until } from "@isthmus/e2e";
import { Lab, type Node, ORDINARY_UID } from "@isthmus/lab";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EndlessEcho } from "./fixtures/endless-echo.ts";
import { allWhole, KINDS, RelayedPairs, wrongChecksums } from "./fixtures/relayed-pairs.ts";

const MIB = 1024 * 1024;
const BYTES = 256 * MIB;
/** What sessions, and the questions of this test, cost beside a transfer. */
const SMALL_BYTES = 16 * MIB;
const TRANSFER_MS = 100_000;
const WAIT_MS = 40_000;
const user = { uid: ORDINARY_UID };

let lab: Lab;
let relay: Node;
let deployment: Deployment;
let pairs: RelayedPairs;

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
  pairs = await RelayedPairs.start(lab, deployment, WAIT_MS);
});

afterAll(async () => {
  await lab?.destroy();
});

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
    const { subscriber, provider } = pairs.of(kind);
    const web = await Nginx.start(provider.daemon.node, 8080);
    const file = join(ownFolder(lab.internet.node, "files"), kind);
    await lab.internet.node.read("sh", ["-c", `head -c ${BYTES} /dev/urandom >${file}`], { timeoutMs: TRANSFER_MS });
    await provider.daemon.node.read("ln", [file, join(web.site, "file")]);
    const port = await pairs.serve(kind, "web", web.port, { plain: true });
    const origin = `http://127.0.0.1:${port}`;
    const sh = (script: string) =>
      subscriber.daemon.node.read("bash", ["-eo", "pipefail", "-c", script], { ...user, timeoutMs: TRANSFER_MS });
    await until("both have joined", async () => {
      await sh(`curl -sSf -o /dev/null -r 0-0 ${origin}/file`);
      return way.test(await pairs.wayOf(kind)) || undefined;
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
  const { subscriber, provider } = pairs.of(kind);
  await startDnsmasq(provider.daemon.node, 5353, { addresses: { "printer.example": "192.0.2.53" }, texts: {} });
  const port = await pairs.serve(kind, "dns", 5353, { udp: true });
  for (const more of [[], ["+tcp"]]) {
    const args = ["@127.0.0.1", "-p", String(port), "+tries=3", "+time=5", "+short", ...more, "printer.example"];
    expect(await subscriber.daemon.node.read("dig", args, { ...user, timeoutMs: 40_000 })).toBe("192.0.2.53\n");
  }
});

it.each(KINDS)("a narrow link behind a router is told to the sender (%s)", async (kind) => {
  const { subscriber, provider, port } = pairs.of(kind);
  // Nobody but the router knows: the host behind it offers full segments.
  await provider.home.router.script("ip link set lan mtu 1400");
  const echo = await EndlessEcho.start(subscriber.daemon.node, port);
  await echo.moves();
  expect(await echo.end()).toBe("whole");
  expect((await pairs.wayOf(kind)).startsWith("cell")).toBe(true);
  await provider.home.router.script("ip link set lan mtu 1500");
});

it("the hardware address of the IST's neighbour changes: connections go on", async () => {
  const started = await pairs.echoes();
  const { node } = lab.internet;
  const device = /dev (\S+)/.exec(await node.read("ip", ["route", "get", relay.ipv4]))![1]!;
  await node.read("ip", ["link", "set", device, "address", "02:00:00:00:be:ef"]);
  // A laboratory's hosts know their neighbours for good; this one has to ask from now on.
  await relay.script("ip neigh flush nud permanent; ip -6 neigh flush nud permanent");
  await allWhole(started);
  await pairs.allMeetAt("cell");
});

describe("the control plane", () => {
  it("is killed and comes back: connections go on meanwhile, and new ones are made afterwards", async () => {
    const started = await pairs.echoes();
    const { ist } = deployment;
    await ist.kill();
    for (const echo of started) await echo.moves();
    await ist.start();
    await ist.ready();
    await allWhole(started);
    await pairs.allMeetAt("cell");
    expect(await ist.status()).toContain("data path  ebpf: the configuration asks for it\n");
  });

  it("attaches the programs again when somebody took them off: cells work again", async () => {
    const { output } = deployment.ist.program;
    const from = output.position;
    const devices = (await relay.script("ip -o link | cut -d: -f2 | cut -d@ -f1")).trim().split(/\s+/);
    for (const device of devices) await relay.script(`tc qdisc del dev ${device} clsact`);
    await deployment.ist.program.waitForOutput(/takes packets of this interface/, 20_000, from);
    await pairs.allMeetAt("cell");
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
  expect(await wrongChecksums(lab.nodes.values())).toEqual([]);
});

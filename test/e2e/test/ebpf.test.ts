import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { appProgram, Deployment, Nginx, NODE, ownFolder, startDnsmasq, until } from "@isthmus/e2e";
import { Lab, type Node, ORDINARY_UID } from "@isthmus/lab";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allWhole, EndlessEcho } from "./fixtures/endless-echo.ts";
import { KINDS, RelayedPairs } from "./fixtures/relayed-pairs.ts";
import { wrongChecksums } from "./fixtures/wrong-checksums.ts";

const MIB = 1024 * 1024;
const BYTES = 64 * MIB;
/** Of one connection that stays for long: how often a file of {@link BYTES} goes each way. */
const ROUNDS = process.env.ISTHMUS_FULL === "1" ? 160 : 16;
/** What sessions, and the questions of this test, cost beside a transfer. */
const SMALL_BYTES = 16 * MIB;
const TRANSFER_MS = 100_000;
const LONG_MS = process.env.ISTHMUS_FULL === "1" ? 1_800_000 : 240_000;
const WAIT_MS = 40_000;
/** What a transfer's case does besides. */
const SET_UP_MS = 20_000;
/** More than what hosts say to each other anyhow, less than an echo's bytes. */
const SECOND_BYTES = 256 * 1024;
/** What nobody else on this host asks for. */
const MOST_SPLICES = 3001;
const NO_MODULE = "the kernel's data path cannot be used: the module ist_splice is not loaded";
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
    istFlags: ["--data-path", "auto"],
    env: { ISTHMUS_IST_LOAD_SECONDS: "0.5", ISTHMUS_IST_DATA_PATH__EBPF_SPLICES: String(MOST_SPLICES) },
  });
  pairs = await RelayedPairs.start(lab, deployment, WAIT_MS);
});

afterAll(async () => {
  await lab?.destroy();
});

it("is what auto chooses on a host without the module, and the IST says so", async () => {
  expect(await deployment.ist.status()).toContain(`data path  ebpf: ${NO_MODULE}\n`);
  expect(await deployment.ist.metrics()).toContain(`isthmus_ist_data_path_info{driver="ebpf",why="${NO_MODULE}"} 1\n`);
});

it("makes room for as many splices as the IST's configuration says", async () => {
  const maps = JSON.parse(await relay.read("bpftool", ["-j", "map", "show", "name", "ist_splices"])) as unknown;
  expect([maps].flat()).toContainEqual(expect.objectContaining({ max_entries: MOST_SPLICES }));
});

const cellBytes = () => deployment.ist.metric('isthmus_ist_bytes_total{at="cell"}');

/** What the IST's process read and wrote. */
async function processBytes(): Promise<number> {
  const text = await relay.script(`cat /proc/${deployment.ist.program.pid}/io`);
  return [...text.matchAll(/^[rw]char: (\d+)$/gm)].reduce((sum, [, number]) => sum + Number(number), 0);
}

describe("curl", { timeout: TRANSFER_MS + SET_UP_MS }, () => {
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

/** Waits for one connection, which becomes standard input and output of a program. */
const ACCEPT = `
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => shift, Listen => 1, ReuseAddr => 1) or die $!;
my $connection = $listener->accept or die $!;
open STDIN, "<&", $connection or die $!;
open STDOUT, ">&", $connection or die $!;
exec @ARGV or die $!;
`;

describe("one connection", { timeout: LONG_MS + SET_UP_MS }, () => {
  const PORT = 8090;

  it.each(KINDS)(`%s: ${(BYTES * ROUNDS) / MIB} MiB go each way at once, unchanged`, async (kind) => {
    const { subscriber, provider } = pairs.of(kind);
    const folder = ownFolder(lab.internet.node, "rounds");
    const file = join(folder, kind);
    await lab.internet.node.read("sh", ["-c", `head -c ${BYTES} /dev/urandom >${file}`], { timeoutMs: TRANSFER_MS });
    const all = `for round in $(seq ${ROUNDS}); do cat ${file}; done`;
    /** Says all, and keeps the digest of what is said to it. */
    const both = (input: number, output: number, sum: string) =>
      `{ ${all}; } >&${output} & head -c ${BYTES * ROUNDS} <&${input} | sha256sum >${sum}; wait`;
    const [atProvider, atSubscriber] = ["provider", "subscriber"].map((end) => join(folder, `${kind}-${end}`));
    const port = await pairs.serve(kind, "long", PORT, { plain: true });
    await pairs.meetAt(kind, "cell");
    const before = { cell: await cellBytes(), process: await processBytes() };

    const options = { ...user, timeoutMs: LONG_MS };
    const serving = provider.daemon.node.run(
      "perl",
      ["-e", ACCEPT, String(PORT), "bash", "-c", both(0, 1, atProvider!)],
      options,
    );
    const expected = lab.internet.node.read("sh", ["-c", `{ ${all}; } | sha256sum`], { timeoutMs: LONG_MS });
    await until("it listens", async () => {
      const listening = await provider.daemon.node.read("ss", ["-Hltn", `sport = :${PORT}`]);
      return listening !== "" || undefined;
    });
    const script = `exec 3<>/dev/tcp/127.0.0.1/${port}; ${both(3, 3, atSubscriber!)}`;
    await Promise.all([subscriber.daemon.node.read("bash", ["-c", script], options), serving]);

    const digest = await expected;
    const digests = [atProvider!, atSubscriber!].map((sum) => readFileSync(sum, "utf8"));
    expect(digests).toEqual([digest, digest]);
    rmSync(file);
    await until("all is counted", async () => (await cellBytes()) - before.cell >= 2 * BYTES * ROUNDS || undefined);
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

it("routes lead by another interface, and back: connections go on, and others are made", async () => {
  const [OURS, THEIRS, OURS6, THEIRS6] = ["11.9.0.2", "11.9.0.1", "fe80::2", "fe80::1"] as const;
  const { node: internet } = lab.internet;
  const { output } = deployment.ist.program;
  const from = output.position;
  const up = (ipv4: string, ipv6: string) =>
    `ip addr add ${ipv4}/30 dev second && ip -6 addr add ${ipv6}/64 dev second nodad && ip link set second up`;
  await relay.script(`
    ip link add second type veth peer name second netns ${internet.netns}
    # Else legs are answered by where they come from, whatever the routes say.
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    ${up(OURS, OURS6)}`);
  await internet.script(up(THEIRS, THEIRS6));
  await deployment.ist.program.waitForOutput(/takes packets of this interface/, 20_000, from);
  const first = (await relay.script("ip route show default; ip -6 route show default")).trim().split("\n");
  const theirs = /dev (\S+)/.exec(await internet.read("ip", ["route", "get", relay.ipv4]))![1]!;
  /** What both ends have sent by it. */
  const moved = () =>
    Promise.all(
      [relay, internet].map(async (node) => {
        const links = JSON.parse(await node.read("ip", ["-j", "-s", "link", "show", "second"])) as {
          stats64: { tx: { bytes: number } };
        }[];
        return links[0]!.stats64.tx.bytes;
      }),
    );

  const started = await pairs.echoes();
  for (const isSecond of [true, false]) {
    const routes = isSecond ? [`default via ${THEIRS} dev second`, `default via ${THEIRS6} dev second`] : first;
    await relay.script(routes.map((text) => `ip ${text.includes("::") ? "-6" : ""} route replace ${text}`).join("\n"));
    const [via, via6, device] = isSecond ? [`via ${OURS}`, `via ${OURS6}`, "second"] : ["", "", theirs];
    await internet.script(
      `ip route replace ${relay.ipv4} ${via} dev ${device} && ip -6 route replace ${relay.ipv6} ${via6} dev ${device}`,
    );
    // A way is good for a second before it is looked up again.
    await until(`both ends ${isSecond ? "send by it" : "do not send by it any more"}`, async () => {
      const before = await moved();
      for (const echo of started) await echo.moves();
      return (await moved()).every((now, end) => now - before[end]! > SECOND_BYTES === isSecond) || undefined;
    });
  }
  await relay.script("ip link del second; sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
  await allWhole(started);
  await pairs.allMeetAt("cell");
});

it("the IST's interface goes down and comes up again: connections go on, and others are made", async () => {
  const started = await pairs.echoes();
  const device = /dev (\S+)/.exec(
    await relay.read("ip", ["route", "get", pairs.of("pure").provider.home.router.ipv4]),
  )![1]!;
  // What a host's network manager does: the kernel forgets routes, and addresses of IPv6, of an interface that is down.
  const routes = (await relay.script("ip route show default; ip -6 route show default")).trim().split("\n");
  await relay.script(`
    ip link set ${device} down && sleep 2 && ip link set ${device} up
    ip -6 addr replace ${relay.ipv6}/64 dev ${device} nodad
    ${routes.map((text) => `ip ${text.includes(":") ? "-6" : ""} route replace ${text} onlink`).join("\n    ")}`);
  await allWhole(started);
  await pairs.allMeetAt("cell");
});

describe("the control plane", () => {
  it("is started a second time by mistake: that one says why it does not start, and connections go on", async () => {
    const started = await pairs.echoes();
    const { folder } = deployment.ist;
    const start = (...args: string[]) => relay.run(NODE, [appProgram("ist"), ...args], { timeoutMs: 30_000 });
    expect(await start("--data", folder, "--name", "ist")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("another IST runs on this host (it holds the lock 'isthmus-ist')\n"),
    });
    const config = join(ownFolder(relay, "second"), "ist.toml");
    writeFileSync(
      config,
      `lock = "other"\ndata = "${join(relay.folder, "second-ist")}"\nlisten = { port = 444 }\nadmin = { listen = "127.0.0.1:9445" }\n`,
    );
    for (const driver of ["auto", "ebpf"]) {
      expect(await start("--config", config, "--data-path", driver)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(
          "the BPF data path cannot be used: another IST uses the BPF data path (it holds the lock 'isthmus-ist-ebpf')\n",
        ),
      });
    }
    await allWhole(started);
    await pairs.allMeetAt("cell");
  });

  it("is killed and comes back: connections go on meanwhile, and new ones are made afterwards", async () => {
    const started = await pairs.echoes();
    const { ist } = deployment;
    await ist.kill();
    for (const echo of started) await echo.moves();
    await ist.start();
    await ist.ready();
    await allWhole(started);
    await pairs.allMeetAt("cell");
    expect(await ist.status()).toContain(`data path  ebpf: ${NO_MODULE}\n`);
  });

  it("attaches the programs again when somebody took them off: cells work again", async () => {
    const { output } = deployment.ist.program;
    const from = output.position;
    const devices = (await relay.script("ip -o link | cut -d: -f2 | cut -d@ -f1")).trim().split(/\s+/);
    for (const device of devices) await relay.script(`tc qdisc del dev ${device} clsact`);
    await deployment.ist.program.waitForOutput(/takes packets of this interface/, 20_000, from);
    await pairs.allMeetAt("cell");
  });

  it("says that it is not ready while another program has its interface, and is again afterwards", async () => {
    const { ist } = deployment;
    const [device] = /dev \S+/.exec(await relay.read("ip", ["route", "get", lab.internet.node.ipv4]))!;
    await relay.script(
      `tc filter add ${device} ingress pref 1 bpf bytecode '1,6 0 0 0' && tc filter del ${device} ingress pref 18771`,
    );
    const url = "http://127.0.0.1:9444/readyz";
    const why = `another program filters the incoming packets of ${device.slice(4)}, and no leg can come there`;
    await until("it is not ready", async () => {
      const { stdout } = await relay.run("curl", ["-sS", url]);
      return stdout.includes(why) || undefined;
    });
    expect(await ist.status()).toContain(`${why}: legs meet at the stream endpoint alone\n`);
    await relay.script(`tc filter del ${device} ingress pref 1`);
    await ist.ready();
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

import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import {
  appProgram,
  Deployment,
  kernelRelay,
  Nginx,
  NODE,
  ownFolder,
  Sshd,
  SshUser,
  startDnsmasq,
  startIperf,
  until,
} from "@isthmus/e2e";
import { Lab, ORDINARY_UID } from "@isthmus/lab";
import { buildModule, type GuestNode } from "@isthmus/vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allWhole } from "../test/fixtures/endless-echo.ts";
import { KINDS, type Kind, RelayedPairs } from "../test/fixtures/relayed-pairs.ts";
import { wrongChecksums } from "../test/fixtures/wrong-checksums.ts";
import { RelayUse } from "./relay-use.ts";

const MIB = 1024 * 1024;
const SEALED_BYTES = 64 * MIB;
const PLAIN_BYTES = (process.env.ISTHMUS_FULL === "1" ? 1024 : 256) * MIB;
/** What sessions, and the questions of this test, cost beside a transfer. */
const SMALL_BYTES = 2 * MIB;
/** Of a full one on Ethernet; large ones count as many. */
const SEGMENT_BYTES = 1448;
/** Sessions, counters, and this test's questions. */
const MOST_BUSY = 0.8;
const TRANSFER_MS = 400_000;
/** A start of Node in the machine takes a quarter of a minute when nothing else runs. */
const MACHINE_MS = 300_000;
const AVOIDED_MS = 240_000;
const user = { uid: ORDINARY_UID };

let lab: Lab;
let relay: GuestNode;
let deployment: Deployment;
let pairs: RelayedPairs;
let use: RelayUse;

/** Unmodified programs at both ends; ISB, daemons and NATs on this host's kernel, the IST on one with `ist_splice`. */
beforeAll(async () => {
  lab = await Lab.create();
  const [isb] = await Promise.all([
    lab.host("isb"),
    kernelRelay(lab, "ist").then((node) => {
      relay = node;
    }),
  ]);
  deployment = await Deployment.start({
    isb,
    ists: [relay],
    istFlags: ["--data-path", "kernel"],
    env: { ISTHMUS_IST_LOAD_SECONDS: "1" },
  });
  use = new RelayUse(deployment.ist, relay);
  pairs = await RelayedPairs.start(lab, deployment, AVOIDED_MS);
}, 3 * MACHINE_MS);

afterAll(async () => {
  await lab?.destroy();
}, MACHINE_MS);

describe("curl", () => {
  let file: string;
  const webs = {} as Record<Kind, Nginx>;
  const digests = new Map<number, string>();

  beforeAll(async () => {
    file = join(ownFolder(lab.internet.node, "files"), "random");
    for (const bytes of [SEALED_BYTES, PLAIN_BYTES]) {
      await lab.internet.node.read("sh", ["-c", `head -c ${bytes} /dev/urandom >${file}-${bytes}`], {
        timeoutMs: TRANSFER_MS,
      });
      const [digest] = (await lab.internet.node.read("sha256sum", [`${file}-${bytes}`])).split(" ");
      digests.set(bytes, digest!);
    }
    for (const kind of KINDS) {
      const { node } = pairs.of(kind).provider.daemon;
      webs[kind] = await Nginx.start(node, 8080);
      for (const bytes of digests.keys()) {
        await node.read("ln", [`${file}-${bytes}`, join(webs[kind].site, String(bytes))]);
      }
    }
  });

  it.each([
    ["pure", "sealed", SEALED_BYTES, /^cell: .*Pure Splices/],
    ["pure", "plain", PLAIN_BYTES, /^cell: .*Pure Splices/],
    ["passive", "sealed", SEALED_BYTES, /^cell: .*Passive Splices/],
    ["passive", "plain", PLAIN_BYTES, /^cell: .*Passive Splices/],
    ["six", "sealed", SEALED_BYTES, /^cell: /],
    ["six", "plain", PLAIN_BYTES, /^cell: /],
  ] as const)(
    "%s, %s: %i bytes each way at once come unchanged, and none through a process of the IST",
    async (...one) => {
      const [kind, mode, bytes, way] = one;
      const { node } = pairs.of(kind).subscriber.daemon;
      const web = webs[kind];
      const port = await pairs.serve(kind, `web-${mode}`, web.port, { plain: mode === "plain" });
      const origin = `http://127.0.0.1:${port}`;
      // The first connection may have found the peer not joined yet, and is none of what is counted.
      await until(
        "both have joined",
        async () => {
          await node.read("curl", ["-sSf", "-o", "/dev/null", "-r", "0-0", `${origin}/${bytes}`], user);
          return way.test(await pairs.wayOf(kind)) || undefined;
        },
        AVOIDED_MS,
      );
      const before = await use.now();

      const sh = (script: string) =>
        node.read("bash", ["-eo", "pipefail", "-c", script], { ...user, timeoutMs: TRANSFER_MS });
      const [downloaded] = await Promise.all([
        sh(`curl -sSf ${origin}/${bytes} | sha256sum`),
        // An allocation rests at one cell for each side: a second open at the same moment meets at the stream endpoint.
        use.whenKernelMoved(before, SMALL_BYTES).then(() => sh(`curl -sSf -T ${file}-${bytes} ${origin}/uploaded`)),
      ]);

      const uploaded = await lab.internet.node.read("sha256sum", [join(web.site, "uploaded")]);
      rmSync(join(web.site, "uploaded"));
      expect([downloaded, uploaded].map((text) => text.split(" ")[0])).toEqual(Array(2).fill(digests.get(bytes)));
      const after = await use.whenKernelMoved(before, 2 * bytes);
      expect(after.processBytes).toBeLessThan(SMALL_BYTES);
      expect(after.segments).toBeLessThan(SMALL_BYTES / SEGMENT_BYTES);
      // One that copied would have no time left: the machine's CPU is the slowest part of all.
      expect(after.processBusy).toBeLessThan(MOST_BUSY);
    },
    2 * TRANSFER_MS,
  );
});

describe("other programs", () => {
  it("ssh runs a command on the other host, and brings back what it says", async () => {
    const { subscriber, provider } = pairs.of("passive");
    const client = await SshUser.create(subscriber.daemon.node);
    const sshd = await Sshd.start(provider.daemon.node, 2222, client.publicKey);
    const port = await pairs.serve("passive", "ssh", sshd.port);
    const input = "said by the subscriber\n".repeat(100_000);
    const args = [...client.flags(sshd, "127.0.0.1", port), "-p", String(port), "root@127.0.0.1"];
    const { stdout, code } = await subscriber.daemon.node.run(
      "ssh",
      [...args, "readlink /proc/self/ns/net; sha256sum; exit 42"],
      { ...user, input, timeoutMs: 60_000 },
    );
    const there = (await provider.daemon.node.read("readlink", ["/proc/self/ns/net"])).trim();
    const digest = createHash("sha256").update(input).digest("hex");
    expect({ stdout, code }).toEqual({ stdout: `${there}\n${digest}  -\n`, code: 42 });
  });

  it.each(["pure", "six"] as const)("dig asks a name server over UDP and over TCP (%s)", async (kind) => {
    const { subscriber, provider } = pairs.of(kind);
    const addresses = { "printer.example": "192.0.2.53" };
    await startDnsmasq(provider.daemon.node, 5353, { addresses, texts: {} });
    const port = await pairs.serve(kind, "dns", 5353, { udp: true });
    const dig = (...more: string[]) => {
      const args = ["@127.0.0.1", "-p", String(port), "+tries=1", "+time=20", "+short", ...more, "printer.example"];
      return subscriber.daemon.node.read("dig", args, { ...user, timeoutMs: 40_000 });
    };
    expect(await dig()).toBe("192.0.2.53\n");
    expect(await dig("+tcp")).toBe("192.0.2.53\n");
  });

  it.each(["passive", "six"] as const)("iperf3 sends datagrams of 32 KiB both ways (%s)", async (kind) => {
    const { subscriber, provider } = pairs.of(kind);
    await startIperf(provider.daemon.node, 5201);
    const port = await pairs.serve(kind, "iperf", 5201, { udp: true });
    for (const direction of [[], ["--reverse"]]) {
      const before = await use.now();
      const args = [
        "-c",
        "127.0.0.1",
        "-p",
        String(port),
        "-u",
        "-b",
        "10M",
        "-t",
        "2",
        "-l",
        "32K",
        "-J",
        ...direction,
      ];
      const text = await subscriber.daemon.node.read("iperf3", args, { ...user, timeoutMs: 60_000 });
      const { error, end } = JSON.parse(text) as IperfReport;
      expect(error).toBeUndefined();
      expect(end.sum.packets).toBeGreaterThan(50);
      expect(end.sum.lost_percent).toBeLessThan(5);
      const after = await use.whenKernelMoved(before, end.sum.bytes * 0.95);
      expect(after.processBytes).toBeLessThan(SMALL_BYTES);
      expect(after.datagrams).toBeLessThan(end.sum.packets / 2);
    }
    const { subscriptions } = await subscriber.daemon.status();
    expect(subscriptions[0]!.udp.path).toBe("cell");
  });
});

describe("the control plane", () => {
  it(
    "is killed and comes back: connections go on meanwhile, and new ones are made afterwards",
    async () => {
      const echoes = await pairs.echoes();
      const { ist } = deployment;

      await ist.kill();
      for (const echo of echoes) await echo.moves();
      await ist.start();
      await ist.ready(MACHINE_MS);

      await allWhole(echoes);
      await pairs.allMeetAt("cell");
      expect(await ist.status()).toContain("data path  kernel: the configuration asks for it\n");
    },
    3 * MACHINE_MS,
  );

  it("says that its module was unloaded, goes on at the stream endpoint, and at cells when it is back", {
    timeout: 3 * MACHINE_MS,
  }, async () => {
    const { ist } = deployment;
    const from = ist.program.output.position;
    await relay.machine.check("/sbin/rmmod ist_splice");
    await ist.program.waitForOutput(/the kernel's data path was unloaded/, MACHINE_MS, from);
    await pairs.meetAt("passive", "stream");
    const status = await relay.read("curl", ["-sS", "http://127.0.0.1:9444/status"]);
    expect(status).toContain('"problem":"the kernel\'s data path is not loaded"');
    await relay.machine.load(buildModule("splice", relay.machine.kernel));
    await ist.program.waitForOutput(/the kernel's data path is back/, MACHINE_MS, from);
    await pairs.meetAt("passive", "cell");
  });

  it(
    "without the module does not start on `kernel`, takes BPF programs on `auto`, and says why",
    async () => {
      const { ist } = deployment;
      await ist.stop();
      await relay.machine.check("/sbin/rmmod ist_splice");
      const args = [appProgram("ist"), "--data", ist.folder, "--name", "ist"];
      const refused = await relay.run(NODE, [...args, "--data-path", "kernel"], { timeoutMs: MACHINE_MS });
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain(
        "isthmus-ist: the kernel's data path cannot be used: the module ist_splice is not loaded\n",
      );
      relay.spawn(NODE, args, { name: "ist on auto" });
      await ist.ready(MACHINE_MS);
      expect(await ist.status()).toContain(
        "data path  ebpf: the kernel's data path cannot be used: the module ist_splice is not loaded\n",
      );
    },
    3 * MACHINE_MS,
  );
});

it(
  "no kernel complained, and no checksum was wrong anywhere",
  async () => {
    expect(relay.machine.complaints()).toEqual([]);
    expect(await wrongChecksums([relay, ...lab.nodes.values()])).toEqual([]);
  },
  MACHINE_MS,
);

interface IperfReport {
  error?: string;
  end: { sum: { packets: number; lost_percent: number; bytes: number } };
}

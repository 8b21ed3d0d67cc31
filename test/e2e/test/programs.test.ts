import { createHash, randomBytes } from "node:crypto";
import { createReadStream, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import {
  Exim,
  Nginx,
  NODE,
  ownFile,
  ownFolder,
  portOf,
  Sshd,
  SshUser,
  startDnsmasq,
  startIperf,
  startRedis,
  type TwoHomes,
  twoHomes,
  until,
} from "@isthmus/e2e";
import { Lab, ORDINARY_UID } from "@isthmus/lab";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { keystreamDigest } from "./fixtures/keystream.ts";
import type { PageReport } from "./fixtures/load-page.ts";
import { fixture, TcpClient, TcpServer } from "./fixtures/peers.ts";
import type { WebSocketReport } from "./fixtures/websocket-client.ts";

const MIB = 1024 * 1024;
const DOWNLOAD_BYTES = (process.env.ISTHMUS_FULL ? 1024 : 256) * MIB;
const user = { uid: ORDINARY_UID };

/** Unmodified programs in home B, which its router lets nobody reach, used from home A. */
describe("between two homes behind port-restricted NATs", () => {
  let lab: Lab;
  let homes: TwoHomes;

  beforeAll(async () => {
    lab = await Lab.create();
    homes = await twoHomes(lab);
  });

  afterAll(async () => {
    await lab?.destroy();
  });

  /** Makes a port of bob's 127.0.0.1 a service, and returns alice's port of it. */
  async function use(name: string, options: { port: number; tcp?: boolean; udp?: boolean }): Promise<number> {
    const { port, tcp = true, udp = false } = options;
    const channels = [...(tcp ? ["--tcp", `127.0.0.1:${port}`] : []), ...(udp ? ["--udp", `127.0.0.1:${port}`] : [])];
    await homes.bob.provide(name, ...channels, "--allow", "alice");
    return portOf(await homes.alice.subscribe(`${name}@bob`), tcp ? "tcp" : "udp");
  }

  it(`carries ${DOWNLOAD_BYTES / MIB} MiB in both directions at once without a changed bit`, {
    timeout: 300_000,
  }, async () => {
    const { alice, bob } = homes;
    const nginx = await Nginx.start(bob.node, 8080);
    const port = await use("web", { port: nginx.port });
    const mine = join(ownFolder(alice.node, "files"), "upload");
    const theirs = join(nginx.site, "download");
    for (const file of [mine, theirs])
      await lab.internet.node.script(`head -c ${DOWNLOAD_BYTES} /dev/urandom > ${file}`);
    const copy = join(alice.node.folder, "files", "copy");

    const curl = (...args: string[]) =>
      alice.node.read("curl", ["-sSf", ...args, "--max-time", "250"], { ...user, timeoutMs: 260_000 });
    await Promise.all([
      curl("-o", copy, `http://127.0.0.1:${port}/download`),
      curl("-T", mine, `http://127.0.0.1:${port}/uploaded`),
    ]);

    expect(await digest(copy)).toBe(await digest(theirs));
    expect(await digest(join(nginx.site, "uploaded"))).toBe(await digest(mine));
  });

  describe("OpenSSH", () => {
    let sshd: Sshd;
    let flags: string[];
    let port: number;

    beforeAll(async () => {
      const { alice, bob } = homes;
      const client = await SshUser.create(alice.node);
      sshd = await Sshd.start(bob.node, 2222, client.publicKey);
      port = await use("ssh", { port: sshd.port });
      flags = client.flags(sshd, "127.0.0.1", port);
    });

    it("runs a command on the other host, and hands on its input and its status", async () => {
      const { alice, bob } = homes;
      const args = [...flags, "-p", String(port), "root@127.0.0.1", "readlink /proc/self/ns/net; tr a-z A-Z; exit 42"];
      const { stdout, stderr, code } = await alice.node.run("ssh", args, {
        ...user,
        input: "said by alice\n",
        timeoutMs: 30_000,
      });

      const there = (await bob.node.read("readlink", ["/proc/self/ns/net"])).trim();
      expect({ stdout, stderr, code }).toEqual({ stdout: `${there}\nSAID BY ALICE\n`, stderr: "", code: 42 });
    });

    it("copies files both ways", async () => {
      const { alice, bob } = homes;
      const here = join(ownFolder(alice.node, "scp"), "here");
      const there = join(ownFolder(bob.node, "scp"), "there");
      const back = join(alice.node.folder, "scp", "back");
      const content = randomBytes(20 * MIB);
      ownFile(here, content);
      const scp = (from: string, to: string) =>
        alice.node.read("scp", [...flags, "-q", "-P", String(port), from, to], { ...user, timeoutMs: 60_000 });

      await scp(here, `root@127.0.0.1:${there}`);
      await scp(`root@127.0.0.1:${there}`, back);

      expect(readFileSync(there).equals(content)).toBe(true);
      expect(readFileSync(back).equals(content)).toBe(true);
    });
  });

  it("redis-cli stores and reads, one by one and in bulk", async () => {
    const { alice, bob } = homes;
    await startRedis(bob.node, 6379);
    const port = await use("redis", { port: 6379 });
    const cli = (args: string[], input?: string) =>
      alice.node.read("redis-cli", ["-p", String(port), ...args], { ...user, input, timeoutMs: 60_000 });
    const value = randomBytes(MIB).toString("hex");

    expect(await cli(["ping"])).toBe("PONG\n");
    expect(await cli(["-x", "set", "large"], value)).toBe("OK\n");
    expect(await cli(["get", "large"])).toBe(`${value}\n`);
    const bulk = Array.from({ length: 10_000 }, (_, n) => `SET key:${n} ${n}\r\n`).join("");
    expect(await cli(["--pipe"], bulk)).toMatch(/errors: 0, replies: 10000\n/);
    expect(await cli(["dbsize"])).toBe("10001\n");
  });

  it("a mail server takes a message and delivers it", async () => {
    const { alice, bob } = homes;
    const exim = await Exim.start(bob.node, 2525, "bob.example");
    const port = await use("smtp", { port: exim.port });
    const body = Array.from({ length: 2000 }, () => randomBytes(24).toString("hex")).join("\n");
    const mail = `From: alice@alice.example\nTo: bob@${exim.domain}\nSubject: through two NATs\n\n${body}\n`;

    await alice.node.read(
      "curl",
      [
        ...["-sS", `smtp://127.0.0.1:${port}/alice.example`, "--upload-file", "-", "--crlf"],
        ...["--mail-from", "alice@alice.example", "--mail-rcpt", `bob@${exim.domain}`],
      ],
      { ...user, input: mail, timeoutMs: 30_000 },
    );

    const delivered = await until("exim delivers", () => {
      const mails = exim.mails();
      return mails.endsWith("\n\n") ? mails : undefined;
    });
    expect(delivered).toContain("Subject: through two NATs\n");
    expect(delivered).toContain(`\n\n${body}\n`);
  });

  it("Chromium shows a page, with all that belongs to it", async () => {
    const { alice, bob } = homes;
    const nginx = await Nginx.start(bob.node, 8081);
    const data = randomBytes(3 * MIB);
    writeFileSync(join(nginx.site, "data"), data);
    writeFileSync(join(nginx.site, "page.js"), PAGE_SCRIPT);
    writeFileSync(join(nginx.site, "index.html"), PAGE);
    const port = await use("page", { port: nginx.port });
    const origin = `http://127.0.0.1:${port}`;

    const text = await alice.node.read(NODE, [fixture("load-page"), `${origin}/`], { ...user, timeoutMs: 60_000 });

    const report = JSON.parse(text) as PageReport;
    expect(report).toMatchObject({
      status: 200,
      title: createHash("sha256").update(data).digest("hex"),
      heading: "Made by bob's server",
    });
    expect(report.requests).toEqual(expect.arrayContaining([`${origin}/`, `${origin}/page.js`, `${origin}/data`]));
  });

  it("WebSockets echo messages of every size, and close with the code that was said", async () => {
    const { alice, bob } = homes;
    const server = bob.node.spawn(NODE, [fixture("websocket-echo-server"), "8082"], user);
    await server.waitForOutput(/listening/);
    const port = await use("websocket", { port: 8082 });

    const args = [fixture("websocket-client"), `ws://127.0.0.1:${port}/`];
    const report = JSON.parse(await alice.node.read(NODE, args, { ...user, timeoutMs: 30_000 })) as WebSocketReport;

    const sizes = [0, 1, 125, 126, 65_535, 65_536, 4_000_000];
    expect(report).toEqual({
      echoed: sizes.flatMap((size) => [size, size]),
      ponged: true,
      code: 4001,
      reason: "good bye",
    });
  });

  describe("half-close", () => {
    const [request, answer] = [
      { seed: 1, bytes: 5 * MIB },
      { seed: 2, bytes: 7 * MIB },
    ] as const;

    it("a client that has ended still gets the whole answer", async () => {
      const server = await TcpServer.start(homes.bob.node, 7001, [
        { do: "await-end" },
        { do: "send", ...answer },
        { do: "end" },
      ]);
      const port = await use("client-first", { port: 7001 });

      const seenByClient = await TcpClient.run(homes.alice.node, port, [
        { do: "send", ...request },
        { do: "end" },
        { do: "await-end" },
      ]);

      expect(seenByClient).toMatchObject({ done: true, ...received(answer) });
      expect(await server.report()).toMatchObject({ done: true, ...received(request) });
    });

    it("a server that has ended still gets all that the client has to say", async () => {
      const server = await TcpServer.start(homes.bob.node, 7002, [
        { do: "send", ...answer },
        { do: "end" },
        { do: "await-end" },
      ]);
      const port = await use("server-first", { port: 7002 });

      const seenByClient = await TcpClient.run(homes.alice.node, port, [
        { do: "await-end" },
        { do: "send", ...request },
        { do: "end" },
      ]);

      expect(seenByClient).toMatchObject({ done: true, ...received(answer) });
      expect(await server.report()).toMatchObject({ done: true, ...received(request) });
    });
  });

  it("dig asks a name server, over UDP and over TCP", async () => {
    const { alice, bob } = homes;
    const long = Array.from({ length: 16 }, (_, n) => `${n}-${randomBytes(100).toString("hex")}`);
    await startDnsmasq(bob.node, 5353, {
      addresses: { "printer.bob.example": "192.0.2.53" },
      texts: { "long.bob.example": long },
    });
    const port = await use("dns", { port: 5353, udp: true });
    const dig = (...args: string[]) =>
      alice.node.read("dig", ["@127.0.0.1", "-p", String(port), "+tries=1", "+time=20", ...args], {
        ...user,
        timeoutMs: 30_000,
      });

    expect(await dig("+short", "printer.bob.example")).toBe("192.0.2.53\n");
    expect(await dig("+short", "+tcp", "printer.bob.example")).toBe("192.0.2.53\n");
    // More than the path's datagrams carry: it has to be cut and put together again, and stays one datagram.
    const text = await dig("+bufsize=4096", "+ignore", "+notcp", "long.bob.example", "TXT");
    expect(text).not.toMatch(/flags:.* tc/);
    for (const part of long) expect(text).toContain(`"${part}"`);
    expect(Number(/MSG SIZE\s+rcvd: (\d+)/.exec(text)?.[1])).toBeGreaterThan(3000);
  });

  describe("iperf3 -u", () => {
    let port: number;

    beforeAll(async () => {
      await startIperf(homes.bob.node, 5201);
      port = await use("iperf", { port: 5201, udp: true });
    });

    // Without -l iperf3 takes what its own TCP connection says of the path: here, to 127.0.0.1, 32 KiB.
    it.each([
      ["to the server, default size", []],
      ["to the server, 32 KiB", ["-l", "32K"]],
      ["from the server, 32 KiB", ["-l", "32K", "--reverse"]],
    ])("%s: the datagrams come whole", async (_name, more) => {
      const args = ["-c", "127.0.0.1", "-p", String(port), "-u", "-b", "20M", "-t", "2", "-J", ...more];
      const text = await homes.alice.node.read("iperf3", args, { ...user, timeoutMs: 30_000 });

      const report = JSON.parse(text) as IperfReport;
      const { packets, lost_percent: lost, bytes } = report.end.sum;
      expect(report.error).toBeUndefined();
      expect(report.start.test_start.blksize).toBe(32 * 1024);
      expect(packets).toBeGreaterThan(100);
      expect(bytes).toBeGreaterThan(100 * 32 * 1024);
      expect(lost).toBeLessThan(5);
    });
  });
});

interface IperfReport {
  error?: string;
  start: { test_start: { blksize: number } };
  end: { sum: { packets: number; lost_percent: number; bytes: number } };
}

const PAGE = `<!doctype html><title>loading</title><h1></h1><script type="module" src="page.js"></script>`;
const PAGE_SCRIPT = `
document.querySelector("h1").textContent = "Made by bob's server";
const answer = await fetch("data");
const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await answer.arrayBuffer()));
document.title = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
`;

function received({ seed, bytes }: { seed: number; bytes: number }): { end: string; received: number; sha256: string } {
  return { end: "clean", received: bytes, sha256: keystreamDigest(seed, bytes) };
}

async function digest(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}

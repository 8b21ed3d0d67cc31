import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { startBehindProxy } from "./support/behind-proxy.ts";
import { startBroker, type TestBroker, type TestBrokerOptions } from "./support/broker.ts";
import { codeOf, startDaemon, type TestDaemon } from "./support/daemon.ts";
import { closedPort } from "./support/leg-port.ts";

const HERE = "127.0.0.1";
/** Once, and then not for a long time. */
const ONCE = { per_second: 0.001, burst: 1 };

async function network(options: TestBrokerOptions = {}) {
  const server = await startBroker(options);
  const alice = await startDaemon(server, { invite: await server.invite("alice") });
  return { server, alice };
}

/** A port at which somebody listens, and what came there. */
async function openPort() {
  const seen = { dials: 0, bytes: 0, ends: 0 };
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    seen.dials++;
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("data", ({ length }: Buffer) => (seen.bytes += length));
    socket.on("close", () => seen.ends++);
    // As a server with a banner does: nobody reads it.
    socket.write("220 ready\r\n");
  });
  server.listen(0, HERE);
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, seen };
}

/** A port whose packets vanish: it is taken, and its queue is full. */
async function silentPort(): Promise<number> {
  const script = `
    const server = require("node:net").createServer().listen({ port: 0, host: "${HERE}", backlog: 1 }, () => {
      require("node:fs").writeSync(1, server.address().port + "\\n");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });
  `;
  const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [text] = (await once(child.stdout, "data")) as [Buffer];
  const port = Number(text.toString());
  const waiting = Array.from({ length: 4 }, () => connect({ host: HERE, port }).on("error", () => undefined));
  onTestFinished(() => {
    for (const socket of waiting) socket.destroy();
  });
  await Promise.all(waiting.slice(0, 2).map((socket) => once(socket, "connect")));
  return port;
}

function probes(server: TestBroker, outcome: string): Promise<number> {
  return server.metrics.value("port_probes_total", { outcome });
}

function ask({ client }: TestDaemon, port: number, rest: { proto?: "tcp" | "udp"; address?: string } = {}) {
  return client.request("probe", { port, ...rest });
}

describe("a port that a daemon asks about", () => {
  test("is reachable where somebody takes connections, who is sent nothing and left at once", async () => {
    const { server, alice } = await network();
    const { port, seen } = await openPort();
    expect(await ask(alice, port)).toEqual({ address: HERE, outcome: "reachable" });
    await expect.poll(() => seen).toEqual({ dials: 1, bytes: 0, ends: 1 });
    expect(await probes(server, "reachable")).toBe(1);
    expect(await ask(alice, port, { address: `::ffff:${HERE}` })).toMatchObject({ outcome: "reachable" });
  });

  test("is refused where nobody listens", async () => {
    const { server, alice } = await network();
    expect(await ask(alice, await closedPort())).toEqual({ address: HERE, outcome: "refused" });
    expect(await probes(server, "refused")).toBe(1);
  });

  test("is given up after a while where nothing answers, and at once when the ISB stops", async () => {
    const { server, alice } = await network();
    const port = await silentPort();
    expect(await ask(alice, port)).toEqual({ address: HERE, outcome: "timeout" });
    expect(await probes(server, "timeout")).toBe(1);
    const asked = codeOf(ask(alice, port));
    await expect.poll(() => server.metrics.value("messages_received_total", { role: "daemon", type: "probe" })).toBe(2);
    const startedMs = performance.now();
    await server.stop();
    expect(["shutting-down", "disconnected"]).toContain(await asked);
    expect(performance.now() - startedMs).toBeLessThan(4000);
    expect(await probes(server, "shutting-down")).toBe(1);
  });

  test("is not dialled at any address but the one that the daemon comes from", async () => {
    const { server, alice } = await network();
    const { port, seen } = await openPort();
    for (const address of ["127.0.0.2", "192.0.2.1", "::1"]) {
      expect(await ask(alice, port, { address })).toEqual({ address: HERE, outcome: "other-address" });
    }
    expect(await codeOf(ask(alice, port, { address: "localhost" }))).toBe("bad-message");
    expect(seen.dials).toBe(0);
    expect(await probes(server, "other-address")).toBe(3);
  });

  test("of UDP gets no datagram, for nobody would answer; its address is compared", async () => {
    const { alice } = await network();
    const socket = createSocket("udp4").bind(0, HERE);
    onTestFinished(() => void socket.close());
    await once(socket, "listening");
    let datagrams = 0;
    socket.on("message", () => datagrams++);
    const { port } = socket.address();
    expect(await ask(alice, port, { proto: "udp" })).toEqual({ address: HERE, outcome: "unprovable" });
    expect(await ask(alice, port, { proto: "udp", address: "192.0.2.1" })).toMatchObject({ outcome: "other-address" });
    await ask(alice, await closedPort());
    expect(datagrams).toBe(0);
  });

  test("below 1024 is left alone, but for 443", async () => {
    const { server, alice } = await network();
    expect(await codeOf(ask(alice, 25))).toBe("bad-request");
    expect(await probes(server, "bad-request")).toBe(1);
    expect(["refused", "reachable"]).toContain((await ask(alice, 443)).outcome);
  });

  test("is not dialled where sessions come through a proxy: the address would be the proxy's", async () => {
    const { server, alice } = await startBehindProxy();
    const { port, seen } = await openPort();
    expect(await codeOf(ask(alice, port))).toBe("probes-off");
    expect(seen.dials).toBe(0);
    expect(await probes(server, "probes-off")).toBe(1);
  });
});

describe("dials are no more than may be", () => {
  test.each([
    ["of one device", "port_probes_per_device", "alice", true],
    ["of one device, and others have theirs", "port_probes_per_device", "bob", false],
    ["of one user, by whichever device", "port_probes_per_user", "alice", true],
    ["of one user, and others have theirs", "port_probes_per_user", "bob", false],
    ["of one address, whoever is there", "port_probes_per_address", "bob", true],
  ])("%s", async (_what, rate, other, isRefused) => {
    const { server, alice } = await network({ settings: { rates: { [rate]: ONCE } } });
    const { port, seen } = await openPort();
    await ask(alice, port);
    const isSameDevice = rate === "port_probes_per_device" && other === "alice";
    const next = isSameDevice ? alice : await startDaemon(server, { invite: await server.invite(other) });
    const second = ask(next, port);
    if (isRefused)
      await expect(second).rejects.toMatchObject({ code: "rate-limited", retryAfterMs: expect.any(Number) });
    else expect(await second).toMatchObject({ outcome: "reachable" });
    await expect.poll(() => seen.dials).toBe(isRefused ? 1 : 2);
    expect(await probes(server, "rate-limited")).toBe(isRefused ? 1 : 0);
    // What needs no dial costs none.
    expect(await ask(next, port, { address: "192.0.2.1" })).toMatchObject({ outcome: "other-address" });
  });

  test("a session that is made again brings no new ones", async () => {
    const { server, alice } = await network({ settings: { rates: { port_probes_per_device: ONCE } } });
    const { port } = await openPort();
    await ask(alice, port);
    await alice.client.stop();
    const again = await startDaemon(server, { identity: alice.identity });
    expect(await codeOf(ask(again, port))).toBe("rate-limited");
  });
});

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "@isthmus/service";
import { expect, it, onTestFinished } from "vitest";
import { ephemeralOverlap, type PortRange, UserspaceDataPath, type UserspaceOptions } from "../src/index.ts";
import { EventLog, loopbackHosts, type TestLeg } from "../src/testing.ts";
import { NO_LIMITS } from "./spliced-legs.ts";

const SOURCES = [["127.0.0.1"], ["127.0.0.3"]] as const;

async function open(ports: PortRange, options: Partial<UserspaceOptions> = {}) {
  const dataPath = new UserspaceDataPath({ logger: silentLogger(), ...options });
  const events = new EventLog();
  const capabilities = await dataPath.open({ ports, udpIdleMs: 60_000, onEvent: events.add });
  onTestFinished(() => dataPath.close());
  return { dataPath, events, capabilities };
}

/** A port that a TCP listener of this test holds, with free ones behind it (unless the world is against us). */
async function takenTcpPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function takenUdpPort(): Promise<number> {
  const socket = createSocket("udp4");
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  onTestFinished(() => void socket.close());
  return socket.address().port;
}

it.each([
  ["TCP", takenTcpPort],
  ["UDP", takenUdpPort],
])("skips a port that somebody else has for %s", async (_, takePort) => {
  const taken = await takePort();
  const { dataPath } = await open({ from: taken, to: taken + 40 });
  const cells = await dataPath.allocate({
    allocation: "a",
    cells: Array.from({ length: 10 }, (_unused, cell) => ({ cell, ports: [taken, taken] as const })),
    sources: SOURCES,
    limits: NO_LIMITS,
  });
  expect(cells.flatMap(({ ports }) => ports)).not.toContain(taken);
});

it("says that it is full when no port is left, and goes on with what it has", async () => {
  const from = (await takenTcpPort()) + 1;
  const { dataPath, events } = await open({ from, to: from + 9 });
  const [cell] = await dataPath.allocate({
    allocation: "a",
    cells: [{ cell: 0 }],
    sources: SOURCES,
    limits: NO_LIMITS,
  });
  const many = Array.from({ length: 8 }, (_, n) => ({ cell: n }));
  await expect(dataPath.update("a", { cells: many })).rejects.toMatchObject({ code: "ist-full" });
  await expect(
    dataPath.allocate({ allocation: "b", cells: many, sources: SOURCES, limits: NO_LIMITS }),
  ).rejects.toMatchObject({ code: "ist-full" });
  expect(await dataPath.stats()).toMatchObject({ cells: 1 });
  expect(await dataPath.dump()).toHaveLength(1);
  const [a, b] = loopbackHosts().sides.map((host, side) => host.connect(cell!.ports[side]!)) as [TestLeg, TestLeg];
  await events.next({ event: "established" });
  a.write("x");
  await b.bytes(1);
  // The ports of the failed attempts are free again.
  await dataPath.update("a", { cells: many.slice(0, 2) });
});

it("listens on the addresses that it is given alone", async () => {
  const { dataPath, events, capabilities } = await open({ from: 20_000, to: 32_767 }, { bind: ["127.0.0.1", "::1"] });
  expect(capabilities.ipv6).toBe(true);
  const [cell] = await dataPath.allocate({
    allocation: "a",
    cells: [{ cell: 0 }],
    sources: [["127.0.0.1"], ["0:0:0:0::/64"]],
    limits: NO_LIMITS,
  });
  const { sides, sides6 } = loopbackHosts();
  const a = sides[0].connect(cell!.ports[0]);
  const b = sides6![1].connect(cell!.ports[1]);
  await events.next({ event: "established" });
  b.write("both families");
  await a.bytes(13);
  const server = createServer().listen(cell!.ports[0], "127.0.0.9");
  await once(server, "listening");
  server.close();
  const { capabilities: ipv4 } = await open({ from: 20_000, to: 32_767 }, { bind: ["127.0.0.1"] });
  expect(ipv4.ipv6).toBe(false);
});

it("says which address it cannot listen on", async () => {
  const dataPath = new UserspaceDataPath({ logger: silentLogger(), bind: ["203.0.113.77"] });
  const opened = dataPath.open({ ports: { from: 20_000, to: 32_767 }, udpIdleMs: 1000, onEvent: () => undefined });
  await expect(opened).rejects.toThrow("203.0.113.77");
});

it("counts a datagram that the system does not take, and goes on", async () => {
  const { dataPath, events } = await open({ from: 20_000, to: 32_767 });
  const [cell] = await dataPath.allocate({
    allocation: "a",
    cells: [{ cell: 0 }],
    sources: [["0:0:0:0::/64"], ["127.0.0.3"]],
    limits: NO_LIMITS,
  });
  const { sides, sides6 } = loopbackHosts();
  const a = await sides6![0].bind();
  const b = await sides[1].bind();
  onTestFinished(() => {
    a.close();
    b.close();
  });
  a.send("hello", cell!.ports[0], "::1");
  await events.next({ event: "half" });
  b.send("hello", cell!.ports[1], "127.0.0.1");
  await events.next({ event: "established" });
  // What one IPv6 datagram carries is too much for one of IPv4.
  a.send(Buffer.alloc(65_520), cell!.ports[0], "::1");
  const arrived = once(b, "message");
  a.send("still here", cell!.ports[0], "::1");
  expect(String((await arrived)[0])).toBe("still here");
  expect((await dataPath.stats()).dropped).toEqual({ early: 1, unsendable: 1 });
});

it("forgets a leg that is reset before its peer comes", async () => {
  const { dataPath, events } = await open({ from: 20_000, to: 32_767 });
  const [cell] = await dataPath.allocate({
    allocation: "a",
    cells: [{ cell: 0 }],
    sources: SOURCES,
    limits: NO_LIMITS,
  });
  const [hostA, hostB] = loopbackHosts().sides;
  const dead = hostA.connect(cell!.ports[0]);
  dead.write("preface");
  await events.next({ event: "half" });
  dead.reset();
  await events.next({ event: "closed", code: "reset" });
  const b = hostB.connect(cell!.ports[1]);
  await events.next({ event: "half", side: 1 });
  const a = hostA.connect(cell!.ports[0]);
  a.write("alive");
  expect((await b.bytes(5)).toString()).toBe("alive");
});

it("warns of a range that overlaps the ephemeral ports, and only then", () => {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-ports-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "ip_local_port_range");
  writeFileSync(file, "32768\t60999\n");
  expect(ephemeralOverlap({ from: 20_000, to: 32_767 }, file)).toBeUndefined();
  expect(ephemeralOverlap({ from: 61_000, to: 65_000 }, file)).toBeUndefined();
  expect(ephemeralOverlap({ from: 20_000, to: 32_768 }, file)).toContain("32768-60999");
  expect(ephemeralOverlap({ from: 40_000, to: 41_000 }, file)).toContain("40000-41000");
  expect(ephemeralOverlap({ from: 60_999, to: 65_000 }, file)).toContain("ip_local_port_range");
  expect(ephemeralOverlap({ from: 1, to: 65_535 }, join(folder, "missing"))).toBeUndefined();
});

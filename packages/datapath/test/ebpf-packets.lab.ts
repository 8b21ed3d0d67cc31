import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { sourcePrefix } from "@isthmus/protocol";
import { silentLogger } from "@isthmus/service";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import { type AllocationSpec, DEFAULT_PORTS, EbpfDataPath } from "../src/index.ts";
import { EventLog, loopbackHosts, TestDatagrams, type TestHost } from "../src/testing.ts";

/** What passes on a device as narrow as Ethernet. */
const { sides, sides6 } = loopbackHosts();
const SECOND6 = "fd00::3";
/** With addresses of their own: fragments are told apart by nothing else. */
const apart6: readonly [TestHost, TestHost] = [
  sides6![0],
  {
    ...sides6![1],
    address: SECOND6,
    bind: async () => {
      const socket = createSocket("udp6");
      socket.bind(0, SECOND6);
      await once(socket, "listening");
      return socket;
    },
  },
];
const LIMITS = { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: 10_000 };

beforeAll(() => {
  execFileSync("ip", ["link", "set", "lo", "mtu", "1500"]);
  execFileSync("ip", ["addr", "add", SECOND6, "dev", "lo", "nodad"]);
});

afterAll(() => {
  execFileSync("ip", ["link", "set", "lo", "mtu", "65536"]);
  execFileSync("ip", ["addr", "del", SECOND6, "dev", "lo"]);
  execFileSync("tc", ["qdisc", "del", "dev", "lo", "clsact"]);
});

async function opened(): Promise<{ dataPath: EbpfDataPath; events: EventLog }> {
  const events = new EventLog();
  const dataPath = new EbpfDataPath({ logger: silentLogger() });
  await dataPath.open({ ports: DEFAULT_PORTS, udpIdleMs: 60_000, onEvent: events.add });
  onTestFinished(() => dataPath.close());
  return { dataPath, events };
}

function spec(allocation: string, hosts: readonly [TestHost, TestHost]): AllocationSpec {
  const [a, b] = hosts.map(({ address }) => [sourcePrefix(address)]) as [string[], string[]];
  return { allocation, cells: [{ cell: 0 }], sources: [a, b], limits: LIMITS };
}

it.each([
  ["IPv4", sides],
  ["IPv6", apart6],
] as const)("datagrams that come in fragments leave in fragments, and arrive whole, over %s", async (name, hosts) => {
  const { dataPath, events } = await opened();
  const allocation = name === "IPv4" ? "00000000000000f4" : "00000000000000f6";
  const [cell] = await dataPath.allocate(spec(allocation, hosts));
  const [a, b] = await Promise.all(hosts.map((host) => TestDatagrams.on(host)));
  onTestFinished(() => [a!, b!].forEach((socket) => void socket.close()));
  await a!.send(cell!.ports[0], "hello");
  await events.next({ event: "half" });
  await b!.send(cell!.ports[1], "hello");
  expect((await a!.next()).toString()).toBe("hello");
  for (const size of [1473, 6000, 32_000]) {
    const [fromA, fromB] = [randomBytes(size), randomBytes(size)];
    await a!.send(cell!.ports[0], fromA);
    await b!.send(cell!.ports[1], fromB);
    expect(await b!.next()).toEqual(fromA);
    expect(await a!.next()).toEqual(fromB);
  }
  expect((await dataPath.stats()).dropped).toEqual({ early: 1 });
  await dataPath.release(allocation, "released");
});

it("nobody else may use it at the same time", async () => {
  await opened();
  await expect(opened()).rejects.toThrow("another IST uses the BPF data path (it holds the lock 'isthmus-ist-ebpf')");
});

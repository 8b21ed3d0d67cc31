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

/** How often this host has sent a SYN again. */
function synsAgain(): number {
  const text = execFileSync("nstat", ["-asz", "TcpExtTCPSynRetrans"], { encoding: "utf8" });
  return Number(/TCPSynRetrans\s+(\d+)/.exec(text)![1]);
}

it("a SYN-ACK that is lost is sent again before anybody asks for it", async () => {
  const { dataPath, events } = await opened();
  const [cell] = await dataPath.allocate(spec("00000000000000aa", sides));
  // Takes away the first one to each side.
  const rule = (port: number) =>
    `tcp sport ${port} tcp flags & (syn | ack) == (syn | ack) limit rate 1/hour burst 1 packets counter drop`;
  execFileSync("nft", ["-f", "-"], {
    input: `table inet lossy { chain input { type filter hook input priority 0; ${cell!.ports.map(rule).join("; ")}; }; }`,
  });
  onTestFinished(() => void execFileSync("nft", ["delete", "table", "inet", "lossy"]));
  const before = synsAgain();
  const legs = sides.map((side, index) => side.connect(cell!.ports[index]!));
  onTestFinished(() => legs.forEach((leg) => void leg.socket.destroy()));
  await events.next({ event: "established" });
  legs[0]!.write("over");
  expect((await legs[1]!.bytes(4)).toString()).toBe("over");
  const rules = execFileSync("nft", ["list", "table", "inet", "lossy"], { encoding: "utf8" });
  expect(rules.match(/counter packets 1 /g)).toHaveLength(2);
  expect(synsAgain()).toBe(before);
  await dataPath.release("00000000000000aa", "released");
});

it("nobody else may use it at the same time", async () => {
  await opened();
  await expect(opened()).rejects.toThrow("another IST uses the BPF data path (it holds the lock 'isthmus-ist-ebpf')");
});

import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket, type Socket, type SocketType } from "node:dgram";
import { once } from "node:events";
import { sourcePrefix } from "@isthmus/protocol";
import { silentLogger } from "@isthmus/service";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { EbpfDataPath, type FanoutCell } from "../src/index.ts";
import { TestDatagrams, type TestHost } from "../src/testing.ts";
import { hosts, oneCell, SPEC } from "./one-cell.ts";
import { opened } from "./opened.ts";

/** What passes on a device as narrow as Ethernet. */
const { sides, sides6 } = hosts;
const SECOND6 = "fd00::3";
/** With addresses of their own: fragments are told apart by nothing else. */
const apart6: readonly [TestHost, TestHost] = [
  sides6![0],
  {
    ...sides6![1],
    address: SECOND6,
    bind: () => bound("udp6", SECOND6),
  },
];

async function bound(type: SocketType, address: string): Promise<Socket> {
  const socket = createSocket(type);
  socket.bind(0, address);
  await once(socket, "listening");
  return socket;
}

beforeAll(() => {
  execFileSync("ip", ["link", "set", "lo", "mtu", "1500"]);
  execFileSync("ip", ["addr", "add", SECOND6, "dev", "lo", "nodad"]);
});

afterAll(() => {
  execFileSync("ip", ["link", "set", "lo", "mtu", "65536"]);
  execFileSync("ip", ["addr", "del", SECOND6, "dev", "lo"]);
  execFileSync("tc", ["qdisc", "del", "dev", "lo", "clsact"]);
});

function start() {
  return opened(new EbpfDataPath({ logger: silentLogger() }));
}

it.each([
  ["IPv4", sides],
  ["IPv6", apart6],
] as const)("datagrams that come in fragments leave in fragments, and arrive whole, over %s", async (name, ends) => {
  const { dataPath, events } = await start();
  const allocation = name === "IPv4" ? "00000000000000f4" : "00000000000000f6";
  const [cell] = await dataPath.allocate(oneCell(ends, allocation));
  const [a, b] = await Promise.all(ends.map((host) => TestDatagrams.on(host)));
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

describe("a fan-out", () => {
  const ALLOCATION = "00000000000000fa";
  /** Not of 127.0.0.0/8, which is refused from packets to groups, and from those that have lost their route. */
  const [SOURCE, RECEIVER, GROUP] = ["10.99.0.1", "10.99.0.2", "239.255.0.1"] as const;
  const source: TestHost = { ...sides[0], address: SOURCE, ist: SOURCE, bind: () => bound("udp4", SOURCE) };
  const receiver: TestHost = { ...sides[1], address: RECEIVER, ist: SOURCE, bind: () => bound("udp4", RECEIVER) };

  beforeAll(() => {
    for (const address of [SOURCE, RECEIVER]) execFileSync("ip", ["addr", "add", `${address}/32`, "dev", "lo"]);
    // A change of the family takes the route from a packet, which then looks as if it came from outside.
    execFileSync("sysctl", ["-qw", "net.ipv4.conf.lo.accept_local=1"]);
  });

  afterAll(() => {
    for (const address of [SOURCE, RECEIVER]) execFileSync("ip", ["addr", "del", `${address}/32`, "dev", "lo"]);
    execFileSync("sysctl", ["-qw", "net.ipv4.conf.lo.accept_local=0"]);
  });

  /** A fan-out with its source, which has sent one datagram. */
  async function started(fanout: FanoutCell, receivers: readonly TestHost[]) {
    const { dataPath, events } = await start();
    const prefixes = receivers.map(({ address }) => sourcePrefix(address));
    const [cell] = await dataPath.allocate({
      allocation: ALLOCATION,
      cells: [{ cell: 0, fanout }],
      sources: [[sourcePrefix(SOURCE)], prefixes],
      limits: SPEC.limits,
    });
    const { ports } = cell!;
    onTestFinished(() => dataPath.release(ALLOCATION, "released"));
    const socket = await TestDatagrams.on(source);
    await socket.send(ports[0], "hello");
    await events.next({ event: "half" });
    const joined: TestDatagrams[] = [];
    for (const host of receivers) {
      const each = await TestDatagrams.on(host);
      await each.send(ports[1], "hello");
      expect((await socket.next()).toString()).toBe("hello");
      joined.push(each);
    }
    onTestFinished(() => [socket, ...joined].forEach((each) => void each.close()));
    return { dataPath, ports, socket, joined };
  }

  it.each([
    ["of one family, in fragments too", [receiver, receiver, receiver], [0, 1, 1400, 1473, 6000, 32_000]],
    ["of both families", [receiver, apart6[1], receiver, apart6[1]], [0, 1, 333, 1400]],
  ] as const)("brings datagrams to receivers %s", async (_, hosts, sizes) => {
    const { dataPath, ports, socket, joined } = await started({ receivers: 8 }, hosts);
    for (const size of sizes) {
      // The turn to get the frame itself goes round: each size more than once.
      for (let n = 0; n < 8; n++) {
        const sent = randomBytes(size);
        await socket.send(ports[0], sent);
        for (const each of joined) expect(await each.next()).toEqual(sent);
      }
    }
    expect([socket, ...joined].map(({ waiting }) => waiting)).toEqual([0, ...joined.map(() => 0)]);
    expect((await dataPath.stats()).dropped).toEqual({});
  });

  it("brings them to a group as well, whose members need not ask", async () => {
    const member = createSocket({ type: "udp4", reuseAddr: true });
    onTestFinished(() => void member.close());
    member.bind(7000, GROUP);
    await once(member, "listening");
    execFileSync("ip", ["link", "set", "lo", "multicast", "on"]);
    member.addMembership(GROUP, SOURCE);
    const received: string[] = [];
    member.on("message", (message, { address }) => received.push(`${address} ${message}`));

    const group = { host: GROUP, port: 7000, ifindex: 1 };
    const { dataPath, ports, socket, joined } = await started({ receivers: 1, group }, [receiver]);
    await socket.send(ports[0], "to all");
    expect((await joined[0]!.next()).toString()).toBe("to all");
    await vi.waitFor(() => expect(received).toEqual([`${SOURCE} hello`, `${SOURCE} to all`]), 10_000);
    const [allocation] = await dataPath.dump();
    expect(allocation!.splices.map(({ sources }) => sources[1].host).sort()).toEqual([RECEIVER, GROUP]);
  });
});

/** How often this host has sent a SYN again. */
function synsAgain(): number {
  const text = execFileSync("nstat", ["-asz", "TcpExtTCPSynRetrans"], { encoding: "utf8" });
  return Number(/TCPSynRetrans\s+(\d+)/.exec(text)![1]);
}

it("a SYN-ACK that is lost is sent again before anybody asks for it", async () => {
  const { dataPath, events } = await start();
  const [cell] = await dataPath.allocate(oneCell(sides, "00000000000000aa"));
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
  await start();
  await expect(start()).rejects.toThrow("another IST uses the BPF data path (it holds the lock 'isthmus-ist-ebpf')");
});

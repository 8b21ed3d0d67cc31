import { readdirSync } from "node:fs";
import { Lab } from "@isthmus/lab";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openFlow, ping, startLineServer, startWhoami, whoami } from "./fixtures/index.ts";

let lab: Lab;

beforeEach(async () => {
  lab = await Lab.create();
});
afterEach(() => lab.destroy());

test("a server sees the router's address, and homes may have the same subnet", async () => {
  const [isb, a, b] = await Promise.all([
    lab.host("isb"),
    lab.home({ name: "home-a", nat: "port-restricted" }),
    lab.home({ name: "home-b", nat: "symmetric" }),
  ]);
  await startWhoami(isb);
  expect(a.host.ipv4).toBe(b.host.ipv4);
  expect(await Promise.all([whoami(a.host, isb), whoami(b.host, isb)])).toEqual([a.address, b.address]);
});

test("hosts of one home reach each other, those of two do not", async () => {
  const [a, b] = await Promise.all([
    lab.home({ name: "home-a", nat: "full-cone", hosts: ["alice", "bob"] }),
    lab.home({ name: "home-b", nat: "full-cone", hosts: ["carol"], subnet: "10.7.0.0/16" }),
  ]);
  expect(lab.node("bob").ipv4).toBe("192.168.1.11");
  expect(lab.node("carol").ipv4).toBe("10.7.0.10");
  expect(await ping(lab.node("alice"), lab.node("bob").ipv4)).toBe(1);
  expect(await ping(lab.node("alice"), lab.node("carol").ipv4)).toBe(0);
  expect(await ping(a.host, b.address)).toBe(1);
});

test("double NAT shows the outer address", async () => {
  const isb = await lab.host("isb");
  const carrier = await lab.home({ name: "carrier", nat: "symmetric", hosts: 0, subnet: "100.64.0.0/16" });
  const [one, two] = await Promise.all([
    lab.home({ name: "one", nat: "full-cone", behind: carrier }),
    lab.home({ name: "two", nat: "port-restricted", behind: carrier }),
  ]);
  await startWhoami(isb);
  expect(await Promise.all([whoami(one.host, isb), whoami(two.host, isb)])).toEqual([carrier.address, carrier.address]);
  expect(one.address).toBe("100.64.0.10");
  await expect(lab.home({ name: "three", nat: "full-cone", behind: one })).rejects.toThrow(/same subnet/);
});

test("a home with IPv6 has addresses that the world reaches as far as its firewall lets it", async () => {
  const [isb, home, only] = await Promise.all([
    lab.host("isb"),
    lab.home({ name: "home", nat: "symmetric", ipv6: true }),
    lab.home({ name: "only", nat: "none", ipv4: false, ipv6: true }),
  ]);
  expect(await ping(home.host, isb.ipv6)).toBe(1);
  expect(await ping(isb, home.host.ipv6)).toBe(0);
  expect(await ping(isb, only.host.ipv6)).toBe(1);
  expect(only.host.ipv4).toBe("");
});

test("a hairpin joins two hosts of a home by their public endpoints", async () => {
  const isb = await lab.host("isb");
  await startLineServer(isb);
  for (const hairpin of [true, false]) {
    const name = hairpin ? "with" : "without";
    const home = await lab.home({ name, nat: "full-cone", hosts: 2, hairpin });
    const [inner, other] = home.hosts as [typeof home.host, typeof home.host];
    const flow = await openFlow("udp", inner, isb);
    const port = (await flow.ask("hello")).split(":")[1]!;

    await other.read(process.execPath, ["-e", sendScript(home.address, port)]);
    if (hairpin) await flow.program.waitForOutput(/hairpin/);
    else expect(await flow.ask("still here")).toBeTruthy();
    expect(flow.program.output.text.includes("hairpin")).toBe(hairpin);
  }
});

function sendScript(address: string, port: string): string {
  return `const s = require("node:dgram").createSocket("udp4"); s.send("hairpin", ${port}, "${address}", () => s.close());`;
}

test("a small MTU on the way is told to the sender", async () => {
  const [host, home] = await Promise.all([lab.host("host"), lab.home({ name: "home", nat: "full-cone", mtu: 1400 })]);
  const { stdout } = await home.host.run("ping", ["-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1400", host.ipv4]);
  expect(stdout).toMatch(/Frag needed and DF set \(mtu = 1400\)/);
  await expect(lab.host("jumbo", { delayMs: 1, mtu: 9000 })).rejects.toThrow(/no MTU above 1500/);
});

test("no node has a way out of the lab", async () => {
  const [host, home] = await Promise.all([lab.host("host"), lab.home({ name: "home", nat: "full-cone" })]);
  for (const node of [host, home.router, home.host]) {
    const { stdout } = await node.run("ping", ["-n", "-c", "1", "-W", "2", "8.8.8.8"]);
    expect(stdout).toMatch(/From 11\.0\.0\.1 .*Unreachable/);
  }
  const { stderr } = await lab.internet.node.run("ip", ["route", "get", "8.8.8.8"]);
  expect(stderr).toMatch(/unreachable/);
});

test("two labs of one world do not meet and have the same names", async () => {
  await using other = await Lab.create();
  const [mine, theirs] = await Promise.all([lab.host("isb"), other.host("isb")]);
  await Promise.all([startWhoami(mine), startWhoami(theirs)]);
  const [client, otherClient] = await Promise.all([
    lab.home({ name: "home", nat: "full-cone" }),
    other.home({ name: "home", nat: "full-cone" }),
  ]);
  await other.destroy();
  expect(await whoami(client.host, mine)).toBe(client.address);
  await expect(otherClient.host.read("true")).rejects.toThrow(/netns/);
});

test("a destroyed lab leaves nothing behind", async () => {
  const before = [readdirSync("/run/netns"), readdirSync("/run/isthmus-lab")];
  const other = await Lab.create();
  const home = await other.home({ name: "home", nat: "full-cone", delayMs: 1 });
  home.host.spawn("sleep", ["1000"]);
  // A daemon that left its parent, its session and its output behind.
  await home.host.read("sh", ["-c", "setsid -f sleep 1000 > /dev/null 2>&1 < /dev/null"]);
  const inhabitants = (await other.internet.node.read("ip", ["netns", "pids", home.host.netns])).trim().split("\n");
  expect(inhabitants.length).toBe(2);

  await other.destroy();
  expect([readdirSync("/run/netns"), readdirSync("/run/isthmus-lab")]).toEqual(before);
  for (const pid of inhabitants) expect(readdirSync("/proc")).not.toContain(pid);
  await other.destroy();
});

test("a name is used once and fits a device", async () => {
  await lab.host("isb");
  await expect(lab.host("isb")).rejects.toThrow(/already has/);
  await expect(lab.host("a-name-that-is-too-long")).rejects.toThrow(/at most 13/);
  expect(() => lab.node("nobody")).toThrow(/has no nobody/);
});

test("the drawing shows every node where it is", async () => {
  await lab.host("isb", { delayMs: 10 });
  const carrier = await lab.home({ name: "carrier", nat: "symmetric", hosts: 0, subnet: "100.64.0.0/16" });
  await lab.home({ name: "home", nat: "restricted", behind: carrier, firewall: "no-udp", hosts: ["alice"] });
  expect(lab.topology()).toMatchInlineSnapshot(`
    "Internet 11.0.0.1
    ├── isb            11.1.0.1 2a0e:1a:1::1  10 ms each way
    └── carrier        11.1.0.2  NAT: symmetric, address-and-port-dependent mapping, address-and-port-dependent filtering
        └── home       100.64.0.10  NAT: restricted (restricted cone), endpoint-independent mapping, address-dependent filtering  drops UDP, and new inbound flows
            └── alice  192.168.1.10"
  `);
});

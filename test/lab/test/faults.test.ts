import { Lab, type Node } from "@isthmus/lab";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openFlow, ping, startLineServer, startWhoami, whoami } from "./fixtures/index.ts";

/** curl's status for a time-out. */
const CURL_TIMEOUT = 28;

let lab: Lab;
let server: Node;

beforeEach(async () => {
  lab = await Lab.create();
  server = await lab.host("server");
});
afterEach(() => lab.destroy());

describe("a link", () => {
  test.each(["host", "router", "lan"])("of a %s goes down and comes up again", async (place) => {
    const home = await lab.home({ name: "home", nat: "port-restricted" });
    const link = { host: server.link, router: home.link, lan: home.host.link }[place]!;
    expect(await ping(home.host, server.ipv4)).toBe(1);

    await link.down();
    expect(await ping(home.host, server.ipv4)).toBe(0);
    await link.up();
    // In a LAN the host asks again for the router's hardware address, once a second.
    await expect.poll(() => ping(home.host, server.ipv4), { timeout: 5000 }).toBe(1);
  });

  test("of a host with IPv6 comes up again with it", async () => {
    const other = await lab.host("other");
    await other.link.down();
    await other.link.up();
    expect(await ping(server, other.ipv6)).toBe(1);
  });

  test("loses a share of the packets of one direction until healed", async () => {
    const client = await lab.host("client");
    await client.link.loss({ percent: 50, direction: "out" });
    const received = await ping(client, server.ipv4, 100);
    expect(received).toBeGreaterThan(10);
    expect(received).toBeLessThan(90);
    // The client also speaks by itself, to find IPv6 routers.
    expect(await client.link.dropped()).toBeGreaterThanOrEqual(100 - received);

    await client.link.heal();
    expect(await ping(client, server.ipv4, 100)).toBe(100);
  });

  test("loses one protocol only", async () => {
    const client = await lab.host("client");
    await startLineServer(server);
    const [tcp, udp] = await Promise.all([openFlow("tcp", client, server), openFlow("udp", client, server)]);
    await udp.ask("before");

    await client.link.loss({ percent: 100, protocol: "udp" });
    udp.send("lost");
    await tcp.ask("not lost");
    expect(await client.link.dropped()).toBe(1);

    await client.link.heal();
    await udp.ask("after");
    expect(udp.program.output.text).not.toContain("lost from");
  });

  test("blocks one port of one address, silently", async () => {
    const client = await lab.host("client");
    await Promise.all([startWhoami(server, 80), startWhoami(server, 8080)]);
    await client.link.block({ address: server.ipv4, port: 80 });
    expect(await whoami(client, server, 80)).toBe(CURL_TIMEOUT);
    expect(await whoami(client, server, 8080)).toBe(client.ipv4);

    await client.link.heal();
    expect(await whoami(client, server, 80)).toBe(client.ipv4);
  });

  test("blocks an IPv6 address", async () => {
    const client = await lab.host("client");
    await client.link.block({ address: server.ipv6, direction: "in" });
    expect([await ping(client, server.ipv6), await ping(client, server.ipv4)]).toEqual([0, 1]);
  });
});

describe("a router", () => {
  beforeEach(() => startLineServer(server));

  test("that changes its address and forgets old flows shows the new one", async () => {
    const home = await lab.home({ name: "home", nat: "port-restricted" });
    const [tcp, udp] = await Promise.all([openFlow("tcp", home.host, server), openFlow("udp", home.host, server)]);
    const old = home.address;
    const seen = [await tcp.ask("one"), await udp.ask("one")];
    for (const source of seen) expect(source).toContain(`${old}:`);

    await home.changeAddress();
    expect(home.address).not.toBe(old);
    expect(await udp.ask("two")).toContain(`${home.address}:`);
    tcp.send("two");
    // To the server the old connection's packets come from nobody it knows.
    await tcp.program.waitForOutput(/ECONNRESET/);
    expect(await ping(server, old)).toBe(0);
    expect(await ping(server, home.address)).toBe(1);
  });

  test("that changes its address and keeps old flows sends them nowhere", async () => {
    const home = await lab.home({ name: "home", nat: "full-cone" });
    const [tcp, udp] = await Promise.all([openFlow("tcp", home.host, server), openFlow("udp", home.host, server)]);
    await Promise.all([tcp.ask("one"), udp.ask("one")]);

    await home.changeAddress("blackholed");
    const before = await lab.internet.rejected();
    tcp.send("two");
    udp.send("two");
    await expect.poll(() => lab.internet.rejected(), { interval: 5 }).toBeGreaterThanOrEqual(before + 2);
    for (const { program } of [tcp, udp]) expect(program.output.text).not.toMatch(/two|ECONNRESET/);
    // A new flow is nobody's concern.
    const fresh = await openFlow("tcp", home.host, server);
    expect(await fresh.ask("one")).toContain(`${home.address}:`);
  });

  test("changes all addresses of a pool", async () => {
    const home = await lab.home({ name: "home", nat: "pool" });
    const old = home.router.addresses.ipv4;
    await home.changeAddress();
    const flow = await openFlow("tcp", home.host, server);
    const source = (await flow.ask("one")).split(":")[0];
    expect(home.router.addresses.ipv4).toContain(source);
    expect(old).not.toContain(source);
  });

  test("without NAT keeps its hosts reachable when it changes its own address", async () => {
    const home = await lab.home({ name: "home", nat: "none", ipv6: true });
    await home.changeAddress();
    expect([await ping(server, home.host.ipv4), await ping(server, home.host.ipv6)]).toEqual([1, 1]);
  });

  test("behind another router changes its address", async () => {
    const carrier = await lab.home({ name: "carrier", nat: "symmetric", hosts: 0, subnet: "100.64.0.0/16" });
    const home = await lab.home({ name: "home", nat: "full-cone", behind: carrier });
    const old = home.address;
    await home.changeAddress();
    expect(home.address).not.toBe(old);
    const flow = await openFlow("tcp", home.host, server);
    expect(await flow.ask("one")).toContain(`${carrier.address}:`);
  });

  test("that restarts takes the hosts' carrier away and forgets all flows", async () => {
    const home = await lab.home({ name: "home", nat: "symmetric", ipv6: true });
    const flow = await openFlow("tcp", home.host, server);
    await flow.ask("one");

    await home.powerOff();
    expect(await home.host.read("ip", ["link", "show", "eth0"])).toContain("NO-CARRIER");
    expect(await ping(server, home.address)).toBe(0);

    await home.powerOn();
    flow.send("two");
    await flow.program.waitForOutput(/ECONNRESET/);
    const fresh = await openFlow("tcp", home.host, server);
    expect(await fresh.ask("one")).toContain(`${home.address}:`);
    expect(await ping(home.host, server.ipv6)).toBe(1);
  });

  test.each(["router", "link"])("gets another address while its %s is down", async (what) => {
    const home = await lab.home({ name: "home", nat: "full-cone" });
    const old = home.address;
    await (what === "link" ? home.link.down() : home.powerOff());
    await home.changeAddress();
    expect(await ping(server, home.address)).toBe(0);

    await (what === "link" ? home.link.up() : home.powerOn());
    const flow = await openFlow("tcp", home.host, server);
    expect(await flow.ask("one")).toContain(`${home.address}:`);
    expect(await ping(server, old)).toBe(0);
  });

  test("that restarts leaves the faults of its links as they are", async () => {
    const home = await lab.home({ name: "home", nat: "full-cone", hosts: 2 });
    const [one, two] = home.hosts as [Node, Node];
    await one.link.down();
    await two.link.loss({ percent: 100 });
    await home.restart();
    expect([await ping(one, server.ipv4), await ping(two, server.ipv4)]).toEqual([0, 0]);
    await one.link.up();
    await two.link.heal();
    await expect.poll(() => ping(one, server.ipv4), { timeout: 5000 }).toBe(1);
    await expect.poll(() => ping(two, server.ipv4), { timeout: 5000 }).toBe(1);
  });

  test("that forgets its flows maps the same endpoint anew", async () => {
    const home = await lab.home({ name: "home", nat: "symmetric" });
    const flow = await openFlow("udp", home.host, server);
    const source = await flow.ask("one");
    expect(await flow.ask("two")).toBe(source);

    await home.forgetFlows();
    const later = await flow.ask("three");
    expect(later).toContain(`${home.address}:`);
    expect(later).not.toBe(source);
  });

  test("forgets an idle UDP flow after its time-out", async () => {
    const home = await lab.home({ name: "home", nat: "symmetric", udpTimeoutSeconds: 1 });
    const flow = await openFlow("udp", home.host, server);
    await flow.ask("one");
    await expect.poll(() => home.router.read("conntrack", ["-L", "-p", "udp"]), { timeout: 5000 }).toBe("");
  });
});

describe("a firewall", () => {
  test("that is stateful lets nothing new in, one that is open does", async () => {
    const [closed, open] = await Promise.all([
      lab.home({ name: "closed", nat: "none", firewall: "stateful" }),
      lab.home({ name: "open", nat: "none" }),
    ]);
    expect([await ping(server, closed.host.ipv4), await ping(server, open.host.ipv4)]).toEqual([0, 1]);
    expect(await ping(closed.host, server.ipv4)).toBe(1);
  });

  test("lets no UDP through and all TCP", async () => {
    await startLineServer(server);
    const home = await lab.home({ name: "home", nat: "full-cone", firewall: "no-udp" });
    const udp = await openFlow("udp", home.host, server);
    udp.send("one");
    const tcp = await openFlow("tcp", home.host, server);
    await tcp.ask("one");
    expect(udp.program.output.text).not.toContain("from");
  });

  test("lets only TCP to port 443 out", async () => {
    await Promise.all([startWhoami(server, 80), startWhoami(server, 443)]);
    const home = await lab.home({ name: "home", nat: "port-restricted", firewall: "https-only" });
    expect(await whoami(home.host, server, 443)).toBe(home.address);
    expect(await whoami(home.host, server, 80)).toBe(CURL_TIMEOUT);
    expect(await ping(home.host, server.ipv4)).toBe(0);
  });
});

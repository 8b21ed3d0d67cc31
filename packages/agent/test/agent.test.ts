import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { fingerprintOf, type SubscriptionReport } from "@isthmus/protocol";
import { createIdentity } from "@isthmus/service";
import { describe, expect, test, vi } from "vitest";
import { echoService } from "./support/local-service.ts";
import { addressOf, askByUdp, client, endOf, exchange } from "./support/programs.ts";
import { wish } from "./support/requests.ts";
import { codeOf, device, TestAgent, type TestAgentOptions, World } from "./support/world.ts";

const WAIT = { timeout: 15_000, interval: 10 };

/** alice uses what bob provides. */
async function subscribed(options: { alice?: TestAgentOptions; bob?: TestAgentOptions } = {}) {
  const world = await World.start();
  const [alice, bob] = await Promise.all([device(world, "alice", options.alice), device(world, "bob", options.bob)]);
  await bob.agent.provide(await echoService(), { take: false });
  const subscription = await alice.agent.subscribe(wish("echo@bob"));
  return { world, alice, bob, subscription, tcp: addressOf(subscription), udp: addressOf(subscription, "udp") };
}

const reportOf = ({ agent }: TestAgent): SubscriptionReport => agent.status().subscriptions[0]!;

/** A connection that is carried, as its echo shows. */
async function open(address: string) {
  const socket = client(address);
  const answer = once(socket, "data");
  socket.write("hello");
  await answer;
  return socket;
}

/** Handles of listeners and UDP sockets of this process. */
function handles(): Record<string, number> {
  const count: Record<string, number> = { TCPServerWrap: 0, UDPWRAP: 0 };
  for (const kind of process.getActiveResourcesInfo()) if (kind in count) count[kind]!++;
  return count;
}

describe.each([false, true])("two daemons, direct legs %s", (direct) => {
  const options = { alice: { direct }, bob: { direct } };
  const path = direct ? "direct" : "cell";

  test("carry bytes and datagrams, and say which way", async () => {
    const { alice, bob, tcp, udp } = await subscribed(options);
    const sent = randomBytes(500_000).toString("hex");
    expect(await exchange(tcp, sent)).toBe(sent);
    expect(await askByUdp(udp, "datagram")).toBe("datagram");
    await vi.waitFor(() => {
      expect(reportOf(alice)).toMatchObject({ state: "active", tcp: { path }, udp: { path }, connections: 1 });
    }, WAIT);
    const [status, provided] = [alice.agent.status(), bob.agent.status()];
    expect(status).toMatchObject({
      device: { user: "alice", name: "laptop" },
      isb: { state: "up", observed: expect.stringContaining("127.0.0.1:") },
      ists: direct ? [] : [{ name: "ist-0", state: "up" }],
      reachable: { state: direct ? "yes" : "off" },
      links: [{ fingerprint: provided.device.fingerprint, control: direct ? "direct" : "ist", connections: 1 }],
    });
    expect(provided.services).toMatchObject([{ name: "echo", state: "offered", subscribers: 1, connections: 1 }]);
    expect(await alice.metrics.value("streams_total", { side: "opened", reason: "finished" })).toBe(1);
    expect(await bob.metrics.value("streams_total", { side: "answered", reason: "finished" })).toBe(1);
    expect(await alice.metrics.value("logins_total")).toBe(1);
  });

  test("find each other again when the provider's process is another one", async () => {
    const { alice, bob, tcp, udp } = await subscribed(options);
    const before = await open(tcp);
    expect(await askByUdp(udp, "one")).toBe("one");
    await bob.stop();
    expect(await endOf(before)).toBe("reset");
    await TestAgent.start({ folder: bob.folder, direct });
    // What is opened before the daemons have noticed is reset: nobody knows what the former process did with it.
    await vi.waitFor(async () => expect(await exchange(tcp, "again")).toBe("again"), WAIT);
    expect(await askByUdp(udp, "two")).toBe("two");
    expect(reportOf(alice)).toMatchObject({ state: "active" });
  });

  test("find each other again when the subscriber's process is another one, at the same ports", async () => {
    const { alice, bob, tcp, udp } = await subscribed(options);
    await open(tcp);
    expect(await askByUdp(udp, "one")).toBe("one");
    await alice.stop();
    const again = await TestAgent.start({ folder: alice.folder, direct });
    expect(await exchange(tcp, "again")).toBe("again");
    expect(await askByUdp(udp, "two")).toBe("two");
    expect(reportOf(again)).toMatchObject({ state: "active" });
    await vi.waitFor(() => expect(bob.agent.status().services).toMatchObject([{ subscribers: 1 }]), WAIT);
  });

  test("go on without the ISB, and are logged in again when it is back", async () => {
    const { world, alice, bob, tcp, udp } = await subscribed(options);
    const before = await open(tcp);
    await world.stopIsb();
    await vi.waitFor(() => expect(alice.agent.status().isb).toMatchObject({ state: "connecting" }), WAIT);
    expect(await exchange(tcp, "without")).toBe("without");
    expect(await askByUdp(udp, "without")).toBe("without");
    expect(bob.agent.status().services).toMatchObject([{ state: "offline" }]);
    expect(await codeOf(alice.agent.list({ away: false }))).not.toBe("no error");
    await world.startIsb();
    await vi.waitFor(() => {
      expect([alice, bob].map(({ agent }) => agent.status().isb?.state)).toEqual(["up", "up"]);
      expect(bob.agent.status().services).toMatchObject([{ state: "offered", subscribers: 1 }]);
    }, WAIT);
    before.end("still here");
    expect(((await once(before, "data")) as [Buffer])[0].toString()).toBe("still here");
    expect(await exchange(tcp, "with")).toBe("with");
  });

  test("unsubscribing frees everything at once", async () => {
    const world = await World.start();
    const [alice, bob] = await Promise.all([device(world, "alice", { direct }), device(world, "bob", { direct })]);
    await bob.agent.provide(await echoService(), { take: false });
    const before = handles();
    const { listen, id } = await alice.agent.subscribe(wish("echo@bob"));
    const address = listen[0]!.address;
    const connection = await open(address);
    await alice.agent.unsubscribe(id);
    expect(await endOf(connection)).toBe("reset");
    expect(await endOf(client(address))).toContain("ECONNREFUSED");
    expect(await codeOf(alice.agent.unsubscribe("echo@bob"))).toBe("no-such-subscription");
    expect(alice.agent.status().subscriptions).toEqual([]);
    await vi.waitFor(() => {
      expect(bob.agent.status().services).toMatchObject([{ subscribers: 0, connections: 0 }]);
      expect([alice, bob].map(({ agent }) => agent.status().links[0]!.connections)).toEqual([0, 0]);
    }, WAIT);
    // An IST in this process keeps the cells of the link, which stays for a minute.
    if (direct) expect(handles()).toEqual(before);
    else expect(handles().TCPServerWrap! - before.TCPServerWrap!).toBeLessThanOrEqual(4);
  });
});

describe("a provider", () => {
  test("that withdraws a service cuts what is open, and refuses what comes", async () => {
    const { alice, bob, tcp } = await subscribed();
    const connection = await open(tcp);
    await bob.agent.withdraw("echo");
    expect(await endOf(connection)).toBe("reset");
    await vi.waitFor(() => expect(reportOf(alice)).toMatchObject({ state: "failed" }), WAIT);
    expect(bob.agent.status().services).toEqual([]);
    expect(await codeOf(bob.agent.withdraw("echo"))).toBe("no-such-service");
    // Whatever was begun under the old grant, nobody is let through to the service.
    const late = client(tcp);
    late.write("hello?");
    late.once("data", () => expect.unreachable("nobody is there"));
    await bob.agent.provide(await echoService(), { take: false });
  });

  test("has the last word: its own list by key, which the ISB does not know", async () => {
    const { alice, bob, tcp } = await subscribed();
    const connection = await open(tcp);
    const stranger = fingerprintOf(createIdentity().publicKey);
    await bob.agent.provide(await echoService({ anyone: false, allow: [`alice#${stranger}`] }), { take: false });
    expect(await endOf(connection)).toBe("reset");
    expect(await endOf(client(tcp))).toBe("reset");
    await alice.agent.unsubscribe("echo@bob");
    expect(await codeOf(alice.agent.subscribe(wish("echo@bob")))).toBe("not-allowed");
    const known = alice.agent.status().device.fingerprint;
    await bob.agent.provide(await echoService({ anyone: false, allow: [`alice#${known}`] }), { take: false });
    expect(await exchange(addressOf(await alice.agent.subscribe(wish("echo@bob"))), "hello")).toBe("hello");
    expect(await bob.metrics.value("asks_refused_total", { reason: "not-allowed" })).toBe(1);
  });

  test("has no more open at a time than it may, and takes others when there is room again", async () => {
    const { tcp } = await subscribed({ bob: { mostStreams: 2 } });
    const [one] = [await open(tcp), await open(tcp)];
    expect(await endOf(client(tcp))).toBe("reset");
    one.end();
    await once(one, "close");
    expect(await exchange(tcp, "room")).toBe("room");
  });

  test("consents to bytes in the clear, or not", async () => {
    const { alice, bob } = await subscribed();
    await bob.agent.provide(await echoService({ name: "clear", plain: true }), { take: false });
    const subscription = await alice.agent.subscribe(wish("clear@bob", { plain: true }));
    expect(subscription).toMatchObject({ plain: true });
    expect(await exchange(addressOf(subscription), "in the clear")).toBe("in the clear");
    await alice.agent.unsubscribe("echo@bob");
    expect(await codeOf(alice.agent.subscribe(wish("echo@bob", { plain: true })))).toBe("plain-refused");
  });

  test("that is away is waited for, or not, as the subscriber wants", async () => {
    const { alice, bob } = await subscribed();
    await alice.agent.unsubscribe("echo@bob");
    await bob.stop();
    await vi.waitFor(async () => expect(await alice.agent.list({ away: false })).toEqual([]), WAIT);
    expect(await codeOf(alice.agent.subscribe(wish("echo@bob")))).toBe("provider-away");
    const waiting = alice.agent.subscribe(wish("echo@bob", { waitMs: 15_000 }));
    await TestAgent.start({ folder: bob.folder });
    expect(await waiting).toMatchObject({ state: "active" });
  });

  test("that changes one service twice at once ends with the later one, whatever came of the former", async () => {
    const { bob } = await subscribed();
    const [good, twice] = [await echoService(), await echoService()];
    const wrong = { ...twice, channels: [twice.channels[0]!, twice.channels[0]!] };
    const first = codeOf(bob.agent.provide(good, { take: false }));
    const second = codeOf(bob.agent.provide(wrong, { take: false }));
    const third = codeOf(bob.agent.provide({ ...good, description: "third" }, { take: false }));
    const gone = codeOf(bob.agent.withdraw("echo"));
    const fourth = codeOf(bob.agent.provide({ ...good, description: "fourth" }, { take: false }));
    expect(await Promise.all([first, second, third, gone, fourth])).toEqual([
      "no error",
      "bad-request",
      "no error",
      "no error",
      "no error",
    ]);
    expect(bob.agent.status().services).toMatchObject([{ name: "echo", state: "offered" }]);
  });
});

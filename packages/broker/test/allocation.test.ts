import { IsthmusError } from "@isthmus/protocol";
import { describe, expect, test, vi } from "vitest";
import { startBroker, type TestBroker } from "./support/broker.ts";
import { codeOf, newSubscription, service, startDaemon } from "./support/daemon.ts";
import { startIst, type TestIst } from "./support/ist.ts";

const WAIT = { timeout: 5000, interval: 5 };

async function pairOf(server: TestBroker) {
  const declaration = { services: [service("web")] };
  const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
  const bob = await startDaemon(server, { invite: await server.invite("bob"), declaration });
  return { alice, bob };
}

async function setUp(ists = 1) {
  const server = await startBroker();
  const all: TestIst[] = [];
  for (let number = 0; number < ists; number++) {
    all.push(await startIst(server, { invite: await server.inviteIst(), name: `ist-${number}` }));
  }
  return { server, ists: all, ...(await pairOf(server)) };
}

describe("an allocation", () => {
  test("is one for all subscriptions between two devices, in both directions, and ends with the last", async () => {
    const { ists, alice, bob } = await setUp(2);
    const subscriptions = [newSubscription(), newSubscription(), newSubscription()] as const;
    const replies = [
      await bob.subscribe("web", "alice", { subscription: subscriptions[0] }),
      await bob.subscribe("web", "alice", { subscription: subscriptions[1] }),
      await alice.subscribe("web", "bob", { subscription: subscriptions[2] }),
    ];
    expect(new Set(replies.map(({ allocation }) => allocation!.allocation)).size).toBe(1);
    const living = () => ists.reduce((sum, ist) => sum + ist.living.size, 0);
    expect(living()).toBe(1);
    await bob.client.request("unsubscribe", { subscription: subscriptions[0] });
    await bob.client.request("unsubscribe", { subscription: subscriptions[1] });
    await alice.ended.next(({ subscription }) => subscription === subscriptions[1]);
    expect(living()).toBe(1);
    await alice.client.request("unsubscribe", { subscription: subscriptions[2] });
    await vi.waitUntil(() => living() === 0, WAIT);
  });

  test("is one for crossed subscribes", async () => {
    const { ists, alice, bob } = await setUp(2);
    const replies = await Promise.all([bob.subscribe("web", "alice"), alice.subscribe("web", "bob")]);
    expect(replies[0].allocation!.allocation).toBe(replies[1].allocation!.allocation);
    expect(ists.flatMap((ist) => ist.asked.all)).toHaveLength(1);
  });

  test("is made at the least loaded IST", async () => {
    const { server, ists, alice, bob } = await setUp(2);
    const [first, second] = ists as [TestIst, TestIst];
    first.load({ allocations: 500, room: 500 });
    second.load({ allocations: 400, room: 600 });
    await vi.waitUntil(() => server.broker.operations.ists().every(({ load }) => load!.allocations >= 400), WAIT);
    const reply = await bob.subscribe("web", "alice");
    expect(reply.allocation!.ist.key).toBe(second.key);
    expect(alice.asks.all).toHaveLength(1);
  });

  test("is made elsewhere when an IST refuses", async () => {
    const { ists, bob } = await setUp(2);
    const first = ists.toSorted((a, b) => (a.key < b.key ? -1 : 1));
    first[0]!.refusal = new IsthmusError("ist-full");
    const reply = await bob.subscribe("web", "alice");
    expect(reply.allocation!.ist.key).toBe(first[1]!.key);
  });

  test("that a side asks for again is the living one, and the other side is told", async () => {
    const { ists, alice, bob } = await setUp();
    const subscription = newSubscription();
    const { allocation } = await bob.subscribe("web", "alice", { subscription });
    await alice.told.next();
    const again = await bob.client.request("allocate", { subscription });
    expect(again.allocation).toEqual(allocation);
    expect((await alice.told.next()).allocation!.allocation).toBe(allocation!.allocation);
    // The broker does not answer that from memory: somebody doubts it.
    expect(ists[0]!.asked.all).toHaveLength(2);
    const fromAlice = await alice.client.request("allocate", { subscription });
    expect(fromAlice.allocation.side).toBe(1 - allocation!.side);
    expect((await bob.told.next()).allocation).toEqual(allocation);
  });

  test("moves to another IST when a side cannot reach the first, and both end with the subscription", async () => {
    const { ists, alice, bob } = await setUp(2);
    const subscription = newSubscription();
    const { allocation } = await bob.subscribe("web", "alice", { subscription });
    await alice.told.next();
    const avoid = [allocation!.ist.key];
    const moved = await bob.client.request("allocate", { subscription, avoid });
    expect(moved.allocation.ist.key).not.toBe(allocation!.ist.key);
    expect((await alice.told.next()).allocation!.ist.key).toBe(moved.allocation.ist.key);
    // What one side cannot reach is not offered when the other asks.
    expect(await codeOf(alice.client.request("allocate", { subscription, avoid: [moved.allocation.ist.key] }))).toBe(
      "no-ist",
    );
    await bob.client.request("unsubscribe", { subscription });
    await vi.waitUntil(() => ists.every((ist) => ist.living.size === 0), WAIT);
    expect(ists.map((ist) => ist.released.all.length)).toEqual([1, 1]);
  });

  test("of which the IST says that it ended is made anew", async () => {
    const { server, ists, alice, bob } = await setUp();
    const subscription = newSubscription();
    const { allocation } = await bob.subscribe("web", "alice", { subscription });
    ists[0]!.lose(allocation!.allocation);
    await vi.waitUntil(async () => (await server.metrics.value("allocations")) === 0, WAIT);
    const again = await alice.client.request("allocate", { subscription });
    expect(again.allocation.allocation).not.toBe(allocation!.allocation);
    const next = await bob.subscribe("web", "alice");
    expect(next.allocation!.allocation).toBe(again.allocation.allocation);
  });

  test("that comes too late for its subscription is given back", async () => {
    const { ists, alice, bob } = await setUp();
    const subscription = newSubscription();
    const { allocation } = await bob.subscribe("web", "alice", { subscription });
    const held = Promise.withResolvers<void>();
    ists[0]!.lose(allocation!.allocation);
    ists[0]!.hold = held.promise;
    const asking = codeOf(alice.client.request("allocate", { subscription }));
    await ists[0]!.asked.next(({ sides }) => sides.includes(alice.key));
    await ists[0]!.asked.next();
    await bob.client.request("unsubscribe", { subscription });
    held.resolve();
    expect(await asking).toBe("no-such-subscription");
    await vi.waitUntil(() => ists[0]!.living.size === 0, WAIT);
  });

  test("that is over while its IST is away is released when the IST is back", async () => {
    const { server, ists, bob } = await setUp();
    const subscription = newSubscription();
    const { allocation } = await bob.subscribe("web", "alice", { subscription });
    const [ist] = ists as [TestIst];
    await ist.client.stop();
    await vi.waitUntil(() => server.broker.operations.ists()[0]!.load === undefined, WAIT);
    await bob.client.request("unsubscribe", { subscription });
    const again = await startIst(server, { identity: ist.identity, living: ist.living });
    expect(await again.released.next()).toEqual({ allocation: allocation!.allocation, code: "released" });
    await vi.waitUntil(() => again.living.size === 0, WAIT);
  });

  test("that the IST forgot in a restart is made anew, at the same IST", async () => {
    const { server, ists, bob } = await setUp();
    const subscription = newSubscription();
    const { allocation } = await bob.subscribe("web", "alice", { subscription });
    const [ist] = ists as [TestIst];
    await ist.client.stop();
    const again = await startIst(server, { identity: ist.identity });
    await vi.waitUntil(async () => (await server.metrics.value("allocations")) === 0, WAIT);
    const next = await bob.client.request("allocate", { subscription });
    expect(next.allocation.ist.key).toBe(again.key);
    expect(next.allocation.allocation).not.toBe(allocation!.allocation);
  });
});

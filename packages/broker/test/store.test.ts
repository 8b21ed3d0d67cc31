import { createIdentity, silentLogger } from "@isthmus/service";
import { openStore, type Store } from "@isthmus/store";
import { RedisProcess } from "@isthmus/store/testing";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { startBroker } from "./support/broker.ts";
import { codeOf, newSubscription, refusal, service, startDaemon, TestDaemon } from "./support/daemon.ts";
import { startIst } from "./support/ist.ts";

const WAIT = { timeout: 15_000, interval: 10 };

async function startRedis(): Promise<RedisProcess> {
  const redis = await RedisProcess.start();
  onTestFinished(() => redis.remove());
  return redis;
}

async function connect(redis: RedisProcess): Promise<Store> {
  const store = await openStore(redis.url, { logger: silentLogger(), heartbeatMs: 200 });
  onTestFinished(() => store.close());
  return store;
}

describe("while Redis is down", () => {
  test("sessions, directory and negotiations go on, writes are refused by name, and all heals by itself", async () => {
    const redis = await startRedis();
    const server = await startBroker({ store: await connect(redis) });
    await startIst(server, { invite: await server.inviteIst() });
    const declaration = { services: [service("web"), service("old")] };
    const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    await bob.client.request("watch", {});
    await bob.directory.next();
    expect(server.broker.notReady()).toBeUndefined();

    await redis.kill();
    await vi.waitUntil(() => server.broker.notReady() !== undefined, WAIT);
    expect(await codeOf(alice.client.request("invite", {}))).toBe("store-unavailable");
    const declared = await alice.redeclare({ services: [service("web"), service("new")] });
    expect(declared.services).toMatchObject([{ name: "web" }, { name: "new", code: "store-unavailable" }]);
    // What was withdrawn is gone at once all the same.
    expect(await bob.directory.next()).toMatchObject({ entries: [], gone: [{ service: "old", user: "alice" }] });
    expect((await bob.client.request("list", { away: true })).entries.map((entry) => entry.service)).toEqual(["web"]);
    expect((await bob.subscribe("web", "alice")).peer.key).toBe(alice.key);
    // A device that is known can log in, one that is not cannot.
    const { identity } = bob;
    await bob.client.stop();
    await startDaemon(server, { identity });
    expect((await refusal(server, { invite: "A".repeat(22) })).code).toBe("store-unavailable");

    await redis.restart();
    await vi.waitUntil(() => server.broker.notReady() === undefined, WAIT);
    expect((await alice.redeclare({})).services).toEqual([{ name: "web" }, { name: "new" }]);
    await vi.waitUntil(async () => (await server.store.get("service/alice/old")) === undefined, WAIT);
    await alice.client.request("invite", {});
    // Another device may have the name that was withdrawn.
    const invite = await server.invite("alice");
    const other = await startDaemon(server, { invite, declaration: { services: [service("old")] } });
    expect(other.declared?.services).toEqual([{ name: "old" }]);
  });

  test("a service that is withdrawn and offered again is there afterwards", async () => {
    const redis = await startRedis();
    const server = await startBroker({ store: await connect(redis) });
    const declaration = { services: [service("web")] };
    const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
    await redis.kill();
    await vi.waitUntil(() => server.broker.notReady() !== undefined, WAIT);
    await alice.redeclare({ services: [] });
    expect((await alice.client.request("list", { away: true })).entries).toEqual([]);
    expect((await alice.redeclare({ services: [service("web")] })).services).toEqual([{ name: "web" }]);
    expect((await alice.client.request("list", {})).entries).toHaveLength(1);
    await redis.restart();
    await vi.waitUntil(() => server.broker.notReady() === undefined, WAIT);
    await server.broker.operations.setUserDisabled("alice", false);
    expect(await server.store.get("service/alice/web")).toBeDefined();
    expect((await alice.client.request("list", {})).entries).toHaveLength(1);
  });

  test("what another node wrote meanwhile is known as soon as Redis is back", async () => {
    const redis = await startRedis();
    const server = await startBroker({ store: await connect(redis) });
    const alice = await startDaemon(server, { invite: await server.invite("alice") });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    // The broker's connections break; another client is quicker than its new ones.
    await redis.kill();
    await vi.waitUntil(() => server.broker.notReady() !== undefined, WAIT);
    await redis.restart();
    const other = await connect(redis);
    const user = await other.get("user/alice");
    await other.compareAndSet("user/alice", user!.version, { ...(user!.value as object), disabled: true });
    expect((await alice.downs.next(() => true, 15_000)).code).toBe("user-disabled");
    expect(bob.client.state).toBe("up");
  });
});

describe("two nodes on one Redis", () => {
  test("let together exactly five of twenty in on an invite of five uses", async () => {
    const redis = await startRedis();
    const identity = createIdentity();
    const nodes = [
      await startBroker({ store: await connect(redis), identity }),
      await startBroker({ store: await connect(redis), identity }),
    ] as const;
    const invite = await nodes[0].invite("alice", 5);
    const daemons = Array.from({ length: 20 }, (_, n) => new TestDaemon(nodes[n % 2]!, { invite, device: "host" }));
    onTestFinished(() => Promise.all(daemons.map(({ client }) => client.stop())).then(() => undefined));
    for (const { client } of daemons) client.start();
    const outcomes = await Promise.all(
      daemons.map(({ client }) => vi.waitUntil(() => (client.state === "up" ? "in" : client.lastError?.code), WAIT)),
    );
    expect(outcomes.filter((outcome) => outcome === "in")).toHaveLength(5);
    expect(outcomes.filter((outcome) => outcome === "invite-invalid")).toHaveLength(15);
  });

  test("share devices, names and revocations, and adopt each other's subscriptions", async () => {
    const redis = await startRedis();
    const identity = createIdentity();
    const one = await startBroker({ store: await connect(redis), identity });
    const two = await startBroker({ store: await connect(redis), identity });
    await startIst(one, { invite: await one.inviteIst() });
    const declaration = { services: [service("web")] };
    const alice = await startDaemon(one, { invite: await one.invite("alice"), declaration });
    const bob = await startDaemon(one, { invite: await one.invite("bob") });
    const subscription = newSubscription();
    const { grant } = await bob.subscribe("web", "alice", { subscription });
    await bob.client.stop();

    const moved = await startDaemon(two, {
      identity: bob.identity,
      declaration: { services: [service("notes")], subscriptions: [{ subscription, grant }] },
    });
    expect(moved.declared?.subscriptions).toEqual([{ subscription }]);
    await vi.waitUntil(
      async () => (await alice.client.request("list", { away: true, user: "bob" })).entries.length === 1,
      WAIT,
    );
    const { fingerprint } = one.broker.operations.devices("bob")[0]!;
    await one.broker.operations.revokeDevice("bob", fingerprint);
    expect((await moved.downs.next()).code).toBe("device-revoked");
  });
});

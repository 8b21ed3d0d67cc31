import { randomBytes } from "node:crypto";
import { IsthmusError } from "@isthmus/protocol";
import { createIdentity } from "@isthmus/service";
import { verifyGrant } from "@isthmus/session";
import { describe, expect, test, vi } from "vitest";
import { startBroker, type TestBroker } from "./support/broker.ts";
import { codeOf, newSubscription, type Service, service, startDaemon } from "./support/daemon.ts";
import { startIst } from "./support/ist.ts";
import { rawLogin } from "./support/raw-daemon.ts";

async function network(services: Service[] = [service("web")], settings: Parameters<typeof startBroker>[0] = {}) {
  const server = await startBroker(settings);
  const ist = await startIst(server, { invite: await server.inviteIst() });
  const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration: { services } });
  const bob = await startDaemon(server, { invite: await server.invite("bob") });
  return { server, ist, alice, bob };
}

function outcomes(server: TestBroker, outcome: string): Promise<number> {
  return server.metrics.value("negotiations_total", { outcome });
}

describe("subscribe", () => {
  test("is told to both: peer, grant, one allocation with two sides", async () => {
    const { server, ist, alice, bob } = await network();
    const subscription = newSubscription();
    const reply = await bob.subscribe("web", "alice", { subscription, id: "request-1" });
    const told = await alice.told.next();

    expect(alice.asks.all).toEqual([
      {
        negotiation: "request-1",
        subscription,
        service: "web",
        subscriber: { user: "bob", key: bob.key, rotations: [] },
        handshake: "aGVsbG8",
        plain: false,
      },
    ]);
    expect(reply.peer).toEqual({ user: "alice", key: alice.key, rotations: [] });
    expect(reply.channels).toEqual([{ id: "main", proto: "tcp", opener: "subscriber" }]);
    expect(reply.direct).toBeUndefined();
    expect(told).toMatchObject({ subscription, service: "web", user: "alice", peer: { user: "bob", key: bob.key } });
    const [mine, theirs] = [reply.allocation!, told.allocation!];
    expect(mine.allocation).toBe(theirs.allocation);
    expect([mine.side, theirs.side].sort()).toEqual([0, 1]);
    const { shares } = [...ist.living.values()][0]!;
    for (const offer of [mine, theirs]) expect(offer).toMatchObject(shares[offer.side]);
    expect(mine.ist).toMatchObject({ key: ist.key, addresses: ["192.0.2.1:443"] });
    expect(told.grant).toBe(reply.grant);
    expect(verifyGrant(reply.grant, server.identity.publicKey, Date.now() / 1000)).toMatchObject({
      sub: subscription,
      svc: "web",
      prv: { user: "alice", key: alice.key },
      sbr: { user: "bob", key: bob.key },
    });
    expect(await outcomes(server, "told")).toBe(1);
  });

  test("passes any handshake on as it is, in both directions", async () => {
    const { alice, bob } = await network();
    const [there, back] = [randomBytes(2048), randomBytes(2048)].map((bytes) => bytes.toString("base64url"));
    alice.answer = () => ({ handshake: back! });
    const reply = await bob.client.request("subscribe", {
      subscription: newSubscription(),
      service: "web",
      user: "alice",
      handshake: there!,
    });
    expect(alice.asks.all[0]!.handshake).toBe(there);
    expect(reply.handshake).toBe(back);
  });

  test("fails by name", async () => {
    const services = [
      service("web"),
      service("private", { allow: { users: ["carol"] } }),
      service("open", { plain: true }),
    ];
    const { alice, bob } = await network(services);
    expect(await codeOf(bob.subscribe("web", "nobody"))).toBe("unknown-user");
    expect(await codeOf(bob.subscribe("nothing", "alice"))).toBe("unknown-service");
    expect(await codeOf(bob.subscribe("private", "alice"))).toBe("not-allowed");
    expect(await codeOf(bob.subscribe("web", "alice", { plain: true }))).toBe("plain-refused");
    expect(await codeOf(alice.subscribe("web", "alice"))).toBe("bad-request");
    expect((await bob.subscribe("open", "alice", { plain: true })).grant).toBeDefined();
    expect(alice.asks.all.map(({ plain }) => plain)).toEqual([true]);
  });

  test("is what the provider's other device may always do", async () => {
    const { server } = await network([]);
    const invite = await server.invite("carol", 2);
    const declaration = { services: [service("own", { allow: {} })] };
    const desk = await startDaemon(server, { invite, declaration });
    const laptop = await startDaemon(server, { invite });
    expect((await laptop.subscribe("own", "carol")).peer.key).toBe(desk.key);
  });

  test.each<[string, string, string]>([
    ["not-allowed", "not-allowed", "passed on"],
    ["handshake-failed", "handshake-failed", "passed on"],
    ["device-revoked", "provider-refused", "hidden, as it would speak of the subscriber's own login"],
    ["superseded", "provider-refused", "hidden too"],
  ])("that the provider refuses as %s fails as %s: %s", async (said, told) => {
    const { server, ist, alice, bob } = await network();
    alice.answer = () => {
      throw new IsthmusError(said as "internal");
    };
    expect(await codeOf(bob.subscribe("web", "alice"))).toBe(told);
    expect(await outcomes(server, told)).toBe(1);
    // The allocation that was made at the same time is given back.
    await vi.waitUntil(() => ist.living.size === 0, { timeout: 5000, interval: 5 });
  });

  test("without an IST, or with full ones, fails by name", async () => {
    const server = await startBroker();
    const declaration = { services: [service("web")] };
    const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    expect(await codeOf(bob.subscribe("web", "alice"))).toBe("no-ist");
    const ist = await startIst(server, { invite: await server.inviteIst() });
    ist.refusal = new IsthmusError("ist-full");
    expect(await codeOf(bob.subscribe("web", "alice"))).toBe("ist-full");
    ist.refusal = undefined;
    ist.load({ room: 0 });
    await vi.waitUntil(() => server.broker.operations.ists()[0]!.load!.room === 0, { timeout: 5000, interval: 5 });
    expect(await codeOf(bob.subscribe("web", "alice"))).toBe("no-ist");
    ist.load({ room: 10, draining: true });
    await vi.waitUntil(() => server.broker.operations.ists()[0]!.load!.draining, { timeout: 5000, interval: 5 });
    expect(await codeOf(bob.subscribe("web", "alice"))).toBe("no-ist");
    expect(alice.told.all).toEqual([]);
  });
});

describe("an absent provider", () => {
  test("is away at once", async () => {
    const { alice, bob } = await network();
    await alice.client.stop();
    expect(await codeOf(bob.subscribe("web", "alice"))).toBe("provider-away");
  });

  test("is waited for as long as the subscriber wants", async () => {
    const { server, alice, bob } = await network();
    const { identity, declaration } = alice;
    await alice.client.stop();
    expect(await codeOf(bob.subscribe("web", "alice", { waitMs: 300 }))).toBe("provider-away");
    const waiting = bob.subscribe("web", "alice", { waitMs: 60_000 });
    const again = await startDaemon(server, { identity, declaration });
    expect((await waiting).peer.key).toBe(identity.publicKey);
    expect((await again.told.next()).peer.key).toBe(bob.key);
  });

  test("whose session broke a moment ago is waited for in any case", async () => {
    const { server, bob } = await network();
    const identity = createIdentity();
    const raw = await rawLogin(server, identity, await server.invite("carol"));
    const declaration = { services: [service("notes")] };
    raw.send({ t: "declare", id: "d", ...declaration, subscriptions: [] });
    await raw.frames.next(({ re }) => re === "d");
    raw.socket.terminate();
    await vi.waitUntil(() => server.broker.operations.sessionCount === 2, { timeout: 5000, interval: 5 });
    const waiting = bob.subscribe("notes", "carol");
    await startDaemon(server, { identity, declaration });
    expect((await waiting).peer.key).toBe(identity.publicKey);
  });

  test("that withdraws the service while it is waited for ends the wait", async () => {
    const { server, alice, bob } = await network();
    const { identity } = alice;
    await alice.client.stop();
    const waiting = codeOf(bob.subscribe("web", "alice", { waitMs: 60_000 }));
    await startDaemon(server, { identity, declaration: { services: [service("other")] } });
    expect(await waiting).toBe("unknown-service");
  });

  test("need not be waited for any more once the subscriber says so", async () => {
    const { server, alice, bob } = await network();
    await alice.client.stop();
    const subscription = newSubscription();
    const waiting = codeOf(bob.subscribe("web", "alice", { subscription, waitMs: 60_000 }));
    await bob.client.request("unsubscribe", { subscription });
    expect(await waiting).toBe("cancelled");
    expect(await server.metrics.value("negotiations_running")).toBe(0);
  });
});

describe("the same request", () => {
  test("sent again is not carried out again", async () => {
    const { alice, bob } = await network();
    const subscription = newSubscription();
    const send = () => bob.subscribe("web", "alice", { subscription, id: "same" });
    const first = await send();
    expect(await send()).toEqual(first);
    expect(alice.asks.all).toHaveLength(1);
  });

  test("sent again after a reconnect is answered with what came of it meanwhile", async () => {
    const { server, ist, alice } = await network();
    const held = Promise.withResolvers<void>();
    alice.answer = async () => {
      await held.promise;
      return { handshake: "QUJD" };
    };
    const identity = createIdentity();
    const body = { subscription: newSubscription(), service: "web", user: "alice", handshake: "aGVsbG8" };
    const raw = await rawLogin(server, identity, await server.invite("carol"));
    raw.send({ t: "subscribe", id: "same", ...body });
    await alice.asks.next();
    raw.socket.terminate();
    await vi.waitUntil(() => server.broker.operations.sessionCount === 2, { timeout: 5000, interval: 5 });
    held.resolve();
    const carol = await startDaemon(server, { identity });
    const reply = await carol.client.request("subscribe", body, { id: "same" });
    expect(reply.handshake).toBe("QUJD");
    expect(alice.asks.all).toHaveLength(1);
    expect(ist.asked.all).toHaveLength(1);
  });

  test("that nobody comes back for ends, and its allocation with it", async () => {
    const { server, ist, alice } = await network();
    alice.answer = () => new Promise(() => undefined);
    const raw = await rawLogin(server, createIdentity(), await server.invite("carol"));
    const body = { subscription: newSubscription(), service: "web", user: "alice", handshake: "aGVsbG8" };
    raw.send({ t: "subscribe", id: "same", ...body });
    await alice.asks.next();
    await vi.waitUntil(() => ist.living.size === 1, { timeout: 5000, interval: 5 });
    raw.socket.terminate();
    await vi.waitUntil(() => ist.living.size === 0, { timeout: 15_000, interval: 10 });
    expect(await outcomes(server, "disconnected")).toBe(1);
  });
});

describe("a provider that restarts", () => {
  test("is negotiated with anew, since it forgot its keys", async () => {
    const { server, alice, bob } = await network();
    const subscription = newSubscription();
    await bob.subscribe("web", "alice", { subscription });
    const { identity, declaration } = alice;
    await alice.client.stop();
    const again = await startDaemon(server, { identity, declaration });
    expect(await bob.renegotiate.next()).toEqual({ subscription });
    await bob.subscribe("web", "alice", { subscription });
    expect((await again.told.next()).subscription).toBe(subscription);
    expect(server.broker.operations.subscriptionCount).toBe(1);
  });

  test("is negotiated with anew by a subscriber that was away meanwhile", async () => {
    const { server, alice, bob } = await network();
    const subscription = newSubscription();
    const { grant } = await bob.subscribe("web", "alice", { subscription });
    await bob.client.stop();
    await alice.client.stop();
    await startDaemon(server, { identity: alice.identity, declaration: alice.declaration });
    const again = await startDaemon(server, {
      identity: bob.identity,
      declaration: { subscriptions: [{ subscription, grant }] },
    });
    expect(await again.renegotiate.next()).toEqual({ subscription });
  });

  test("or only lost its session, ends nothing and is told again what it may have missed", async () => {
    const { server, alice, bob } = await network();
    const subscription = newSubscription();
    await bob.subscribe("web", "alice", { subscription });
    await alice.told.next();
    const { identity, declaration } = alice;
    await alice.client.stop();
    const again = await startDaemon(server, { identity, declaration, boot: alice.boot });
    expect((await again.told.next()).subscription).toBe(subscription);
    expect(bob.ended.all).toEqual([]);
    expect(bob.renegotiate.all).toEqual([]);
  });
});

describe("a subscription", () => {
  test("ends for the provider when the subscriber ends it", async () => {
    const { ist, alice, bob } = await network();
    const subscription = newSubscription();
    await bob.subscribe("web", "alice", { subscription });
    await bob.client.request("unsubscribe", { subscription });
    expect(await alice.ended.next()).toEqual({ subscription, code: "closed" });
    await vi.waitUntil(() => ist.living.size === 0, { timeout: 5000, interval: 5 });
  });

  test("ends for the subscriber when the provider ends it, or withdraws the service", async () => {
    const { alice, bob } = await network();
    const [one, two] = [newSubscription(), newSubscription()];
    for (const subscription of [one, two]) await bob.subscribe("web", "alice", { subscription });
    await alice.client.request("unsubscribe", { subscription: one });
    expect(await bob.ended.next()).toEqual({ subscription: one, code: "revoked" });
    await alice.redeclare({ services: [] });
    expect(await bob.ended.next()).toEqual({ subscription: two, code: "unknown-service" });
  });

  test("is one of so many that a device may have", async () => {
    const { bob, alice } = await network();
    for (let batch = 0; batch < 8; batch++) {
      await Promise.all(Array.from({ length: 32 }, () => bob.subscribe("web", "alice")));
    }
    expect(await codeOf(bob.subscribe("web", "alice"))).toBe("too-many");
    expect(alice.told.all).toHaveLength(256);
  });

  test("counts while it is waited for", async () => {
    const { server, alice, bob } = await network();
    await alice.client.stop();
    const waiting = Array.from({ length: 256 }, () => codeOf(bob.subscribe("web", "alice", { waitMs: 3_600_000 })));
    expect(await codeOf(bob.subscribe("web", "alice", { waitMs: 3_600_000 }))).toBe("too-many");
    expect(await server.metrics.value("negotiations_running")).toBe(256);
    await server.broker.operations.setUserDisabled("bob", true);
    expect(await Promise.all(waiting)).toEqual(Array(256).fill("disconnected"));
    expect(await server.metrics.value("negotiations_running")).toBe(0);
  });

  test("is asked for so often that a user may ask", async () => {
    const rates = { subscribes: { per_second: 0.001, burst: 3 } };
    const { server, bob } = await network([service("web")], { settings: { rates } });
    const other = await startDaemon(server, { invite: await server.invite("bob") });
    for (const daemon of [bob, other, bob]) await daemon.subscribe("web", "alice");
    for (const daemon of [bob, other]) expect(await codeOf(daemon.subscribe("web", "alice"))).toBe("rate-limited");
  });
});

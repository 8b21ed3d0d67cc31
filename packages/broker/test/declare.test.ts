import { createIdentity } from "@isthmus/service";
import { signGrant, verifyGrant } from "@isthmus/session";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { startBroker, type TestBroker } from "./support/broker.ts";
import { codeOf, newSubscription, service, startDaemon, type TestDaemon } from "./support/daemon.ts";
import { startIst } from "./support/ist.ts";

async function writesOf(server: TestBroker): Promise<number> {
  return server.metrics.value("store_operations_total", { use: "write", outcome: "ok" });
}

describe("services", () => {
  test("are offered with one outcome each, in order", async () => {
    const server = await startBroker();
    const alice = await startDaemon(server, {
      invite: await server.invite("alice"),
      declaration: { services: [service("web"), service("ssh"), service("web")] },
    });
    expect(alice.declared?.services).toEqual([
      { name: "web" },
      { name: "ssh" },
      { name: "web", code: "bad-request", message: "the name is declared twice" },
    ]);
  });

  test("that are not named any more are withdrawn, and their names are free", async () => {
    const server = await startBroker();
    const invite = await server.invite("alice", 2);
    const first = await startDaemon(server, { invite, declaration: { services: [service("web"), service("ssh")] } });
    await first.redeclare({ services: [service("ssh")] });
    const { entries } = await first.client.request("list", {});
    expect(entries.map((entry) => entry.service)).toEqual(["ssh"]);
    const second = await startDaemon(server, { invite, declaration: { services: [service("web")] } });
    expect(second.declared?.services).toEqual([{ name: "web" }]);
  });

  test("that did not change write nothing, neither again nor at a new login", async () => {
    const server = await startBroker();
    const identity = createIdentity();
    const services = [service("web", { description: "pages", allow: { users: ["bob"] } }), service("ssh")];
    const options = { identity, invite: await server.invite("alice"), declaration: { services } };
    const alice = await startDaemon(server, options);
    const before = await writesOf(server);
    await alice.redeclare({});
    await alice.client.stop();
    const again = await startDaemon(server, options);
    expect(again.declared?.services).toEqual([{ name: "web" }, { name: "ssh" }]);
    expect(await writesOf(server)).toBe(before);
    await again.redeclare({ services: [service("web"), service("ssh")] });
    expect(await writesOf(server)).toBe(before + 1);
  });

  test("have names that belong to one device, until another one takes them", async () => {
    const server = await startBroker();
    const invite = await server.invite("alice", 2);
    const first = await startDaemon(server, { invite, declaration: { services: [service("web")] } });
    const second = await startDaemon(server, { invite, declaration: { services: [service("web"), service("ssh")] } });
    expect(second.declared?.services).toMatchObject([{ name: "web", code: "name-taken" }, { name: "ssh" }]);

    await second.client.request("take", { name: "web" });
    expect((await second.redeclare({})).services).toEqual([{ name: "web" }, { name: "ssh" }]);
    expect((await first.redeclare({})).services).toMatchObject([{ name: "web", code: "name-taken" }]);
    // A name that nobody has needs no taking.
    await second.client.request("take", { name: "nobodys" });
  });

  test("that were taken over end the subscriptions to the other device", async () => {
    const server = await startBroker();
    await startIst(server, { invite: await server.inviteIst() });
    const invite = await server.invite("alice", 2);
    const first = await startDaemon(server, { invite, declaration: { services: [service("web")] } });
    const second = await startDaemon(server, { invite });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    const subscription = newSubscription();
    await bob.subscribe("web", "alice", { subscription });
    await second.client.request("take", { name: "web" });
    expect(await bob.ended.next()).toEqual({ subscription, code: "replaced" });
    expect(await first.ended.next()).toEqual({ subscription, code: "replaced" });
    await second.redeclare({ services: [service("web")] });
    expect((await bob.subscribe("web", "alice", { subscription })).peer.key).toBe(second.key);
  });

  test("of a revoked device have free names", async () => {
    const server = await startBroker();
    const invite = await server.invite("alice", 2);
    const first = await startDaemon(server, { invite, declaration: { services: [service("web")] } });
    const second = await startDaemon(server, { invite });
    const { devices } = await second.client.request("devices", {});
    const { fingerprint } = devices.find(({ self }) => !self)!;
    await second.client.request("revoke", { fingerprint });
    await first.downs.next();
    expect((await second.redeclare({ services: [service("web")] })).services).toEqual([{ name: "web" }]);
  });

  test("change only so often", async () => {
    const rates = { service_changes: { per_second: 0.001, burst: 3 } };
    const server = await startBroker({ settings: { rates } });
    const alice = await startDaemon(server, { invite: await server.invite("alice") });
    const first = await alice.redeclare({ services: ["a", "b"].map((name) => service(name)) });
    expect(first.services).toEqual([{ name: "a" }, { name: "b" }]);
    const second = await alice.redeclare({ services: ["a", "b", "c", "d"].map((name) => service(name)) });
    expect(second.services).toMatchObject([{ name: "a" }, { name: "b" }, { name: "c" }, { code: "rate-limited" }]);
    // To withdraw is always possible.
    await alice.redeclare({ services: [] });
    expect((await alice.client.request("list", { away: true })).entries).toEqual([]);
  });

  test("are declared one after the other, and not too many in a row", async () => {
    const server = await startBroker();
    const alice = await startDaemon(server, { invite: await server.invite("alice") });
    const outcomes = Array.from({ length: 100 }, (_, n) => codeOf(alice.redeclare({ services: [service(`s${n}`)] })));
    const refused = (await Promise.all(outcomes)).filter((code) => code === "rate-limited");
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.length).toBeLessThanOrEqual(92);
  });

  test("of two declarations at once are those of the second", async () => {
    const server = await startBroker();
    const alice = await startDaemon(server, { invite: await server.invite("alice") });
    const names = ["one", "two", "three", "four"];
    await Promise.all(names.map((name) => alice.redeclare({ services: [service(name)] })));
    const { entries } = await alice.client.request("list", { away: true });
    expect(entries.map((entry) => entry.service)).toEqual(["four"]);
  });
});

describe("a subscription that a daemon declares", () => {
  async function subscribed() {
    const server = await startBroker();
    await startIst(server, { invite: await server.inviteIst() });
    const declaration = { services: [service("web", { allow: { users: ["bob"] } })] };
    const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    const subscription = newSubscription();
    const { grant } = await bob.subscribe("web", "alice", { subscription });
    return { server, alice, bob, held: { subscription, grant } };
  }

  async function outcome(daemon: TestDaemon, held: { subscription: string; grant: string }) {
    const { subscriptions } = await daemon.redeclare({ subscriptions: [held] });
    return subscriptions[0]?.code ?? "adopted";
  }

  test("is adopted for its grant alone", async () => {
    const { server, alice, bob, held } = await subscribed();
    expect(await outcome(bob, held)).toBe("adopted");
    await bob.client.request("unsubscribe", { subscription: held.subscription });
    await alice.ended.next();
    expect(await outcome(bob, held)).toBe("adopted");
    expect(server.broker.operations.subscriptionCount).toBe(1);
    expect(alice.asks.all).toHaveLength(1);
  });

  test("is refused with a grant for another subscription, another device or by another ISB", async () => {
    const { server, bob, held } = await subscribed();
    const mallory = await startDaemon(server, { invite: await server.invite("bob") });
    const payload = verifyGrant(held.grant, server.identity.publicKey, Date.now() / 1000);
    expect(await outcome(mallory, held)).toBe("grant-invalid");
    expect(await outcome(bob, { ...held, subscription: newSubscription() })).toBe("grant-invalid");
    const stranger = createIdentity();
    const forged = signGrant(stranger, { ...payload, iss: stranger.publicKey });
    expect(await outcome(bob, { ...held, grant: forged })).toBe("grant-invalid");
  });

  test("is refused once the grant has expired", async () => {
    const { server, bob, held } = await subscribed();
    const payload = verifyGrant(held.grant, server.identity.publicKey, Date.now() / 1000);
    const nowS = Math.floor(Date.now() / 1000);
    const old = signGrant(server.identity, { ...payload, iat: nowS - 7200, exp: nowS - 3600 });
    expect(await outcome(bob, { ...held, grant: old })).toBe("grant-expired");
    expect(server.broker.operations.subscriptionCount).toBe(0);
  });

  test("is refused when the provider does not admit the user any more, or the service is gone", async () => {
    const { alice, bob, held } = await subscribed();
    await alice.redeclare({ services: [service("web", { allow: { users: ["carol"] } })] });
    expect(await bob.ended.next()).toEqual({ subscription: held.subscription, code: "revoked" });
    expect(await outcome(bob, held)).toBe("not-allowed");
    await alice.redeclare({ services: [] });
    expect(await outcome(bob, held)).toBe("unknown-service");
  });

  test("is refused when the provider's device was revoked", async () => {
    const { server, alice, bob, held } = await subscribed();
    const { fingerprint } = server.broker.operations.devices("alice")[0]!;
    await server.broker.operations.revokeDevice("alice", fingerprint);
    expect(await bob.ended.next()).toEqual({ subscription: held.subscription, code: "device-revoked" });
    expect((await alice.downs.next()).code).toBe("device-revoked");
    expect(await outcome(bob, held)).toBe("revoked");
  });

  test("and no longer declares at the next login has ended for the provider", async () => {
    const { server, alice, bob, held } = await subscribed();
    await bob.client.stop();
    const again = await startDaemon(server, { identity: bob.identity });
    expect(await alice.ended.next()).toEqual({ subscription: held.subscription, code: "closed" });
    expect(again.declared?.subscriptions).toEqual([]);
  });

  test("is not ended by a declaration that crossed the answer", async () => {
    const { server, alice, bob } = await subscribed();
    await bob.redeclare({ services: [service("own")] });
    expect(server.broker.operations.subscriptionCount).toBe(1);
    expect(alice.ended.all).toEqual([]);
  });

  test("is known under no other key", async () => {
    const { server, bob, held } = await subscribed();
    const carol = await startDaemon(server, { invite: await server.invite("bob") });
    const { subscription } = held;
    expect(await codeOf(carol.subscribe("web", "alice", { subscription }))).toBe("bad-request");
    expect(await codeOf(carol.client.request("renew", { subscription }))).toBe("no-such-subscription");
    expect(await codeOf(carol.client.request("allocate", { subscription }))).toBe("no-such-subscription");
    await carol.client.request("unsubscribe", { subscription });
    expect(server.broker.operations.subscriptionCount).toBe(1);
    await bob.client.request("unsubscribe", { subscription });
    expect(server.broker.operations.subscriptionCount).toBe(0);
  });
});

describe("a grant", () => {
  test("is renewed on both sides, until it is not to be renewed any more", async () => {
    const server = await startBroker();
    await startIst(server, { invite: await server.inviteIst() });
    const declaration = { services: [service("web", { allow: { users: ["bob"] } })] };
    const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    const subscription = newSubscription();
    const first = await bob.subscribe("web", "alice", { subscription });
    await alice.told.next();

    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 12 * 3_600_000 });
    onTestFinished(() => void vi.useRealTimers());
    const { grant } = await bob.client.request("renew", { subscription });
    expect(grant).not.toBe(first.grant);
    expect((await alice.told.next()).grant).toBe(grant);
    const nowS = Date.now() / 1000;
    expect(verifyGrant(grant, server.identity.publicKey, nowS + 23 * 3600).sub).toBe(subscription);

    await alice.redeclare({ services: [service("web", { allow: { users: [] } })] });
    expect(await codeOf(bob.client.request("renew", { subscription }))).toBe("no-such-subscription");
  });
});

import { createIdentity, type Identity } from "@isthmus/service";
import { describe, expect, test, vi } from "vitest";
import { startBroker, type TestBroker } from "./support/broker.ts";
import { service, startDaemon, type TestDaemon } from "./support/daemon.ts";
import { type RawDaemon, rawLogin } from "./support/raw-daemon.ts";

/** Everything of a list, page by page. */
async function listAll(daemon: TestDaemon, request: { away?: boolean; user?: string; limit?: number } = {}) {
  const names: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await daemon.client.request("list", { ...request, ...(cursor === undefined ? {} : { cursor }) });
    names.push(...page.entries.map((entry) => `${entry.service}@${entry.user}`));
    cursor = page.cursor;
  } while (cursor !== undefined);
  return names;
}

describe("the directory", () => {
  test("shows a user what this user may use, and no more", async () => {
    const server = await startBroker();
    const services = [
      service("public"),
      service("for-bob", { allow: { users: ["bob"] } }),
      service("own", { allow: {} }),
    ];
    const alice = await startDaemon(server, { invite: await server.invite("alice", 2), declaration: { services } });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    const carol = await startDaemon(server, { invite: await server.invite("carol") });
    expect(await listAll(alice)).toEqual(["for-bob@alice", "own@alice", "public@alice"]);
    expect(await listAll(bob)).toEqual(["for-bob@alice", "public@alice"]);
    expect(await listAll(bob, { user: "alice" })).toEqual(["for-bob@alice", "public@alice"]);
    expect(await listAll(carol)).toEqual(["public@alice"]);
    expect(await listAll(carol, { user: "bob" })).toEqual([]);
    const { entries } = await carol.client.request("list", { service: "public" });
    expect(entries).toEqual([
      {
        service: "public",
        user: "alice",
        device: alice.client.login!.reply.device,
        fingerprint: expect.stringMatching(/^[a-z2-7]{32}$/),
        channels: [{ id: "main", proto: "tcp", opener: "subscriber" }],
        behaviour: "plain",
        description: "",
        present: true,
      },
    ]);
  });

  test("comes in pages", async () => {
    const server = await startBroker();
    const names = Array.from({ length: 25 }, (_, number) => `s${String(number).padStart(2, "0")}`);
    const declaration = { services: names.map((name) => service(name)) };
    await startDaemon(server, { invite: await server.invite("alice"), declaration });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    const first = await bob.client.request("list", { limit: 10 });
    expect(first.entries).toHaveLength(10);
    expect(await listAll(bob, { limit: 10 })).toEqual(names.map((name) => `${name}@alice`));
  });

  test("hides absent providers unless asked for", async () => {
    const server = await startBroker();
    const declaration = { services: [service("web")] };
    const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    await bob.client.request("watch", {});
    await bob.directory.next();
    await alice.client.stop();
    expect(await bob.directory.next()).toMatchObject({ entries: [{ service: "web", present: false }] });
    expect(await listAll(bob)).toEqual([]);
    expect(await listAll(bob, { away: true })).toEqual(["web@alice"]);
  });

  test("keeps a service for a grace when its provider's session breaks", async () => {
    const graceMs = 1500;
    const server = await startBroker({ settings: { grace_seconds: graceMs / 1000 } });
    const alice = await rawProvider(server, createIdentity(), await server.invite("alice"));
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    await bob.client.request("watch", {});
    await bob.directory.next();

    const brokeAt = performance.now();
    alice.socket.terminate();
    await vi.waitUntil(() => server.broker.operations.sessionCount === 1, { timeout: 5000, interval: 5 });
    expect(await listAll(bob)).toEqual(["web@alice"]);
    expect(await bob.directory.next()).toMatchObject({ entries: [{ service: "web", present: false }] });
    expect(performance.now() - brokeAt).toBeGreaterThanOrEqual(graceMs);
  });

  test("shows no change when a broken session is back within the grace", async () => {
    const server = await startBroker();
    const identity = createIdentity();
    const alice = await rawProvider(server, identity, await server.invite("alice"));
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    await bob.client.request("watch", {});
    await bob.directory.next();
    alice.socket.terminate();
    await vi.waitUntil(() => server.broker.operations.sessionCount === 1, { timeout: 5000, interval: 5 });
    const again = await startDaemon(server, { identity, declaration: { services: [service("web")] } });
    // A later change of another kind is the first thing that the watcher hears.
    await again.redeclare({ services: [service("web"), service("ssh")] });
    const event = await bob.directory.next();
    expect(event.entries.map((entry) => entry.service)).toEqual(["ssh"]);
  });
});

describe("a watcher", () => {
  test("gets a snapshot, then changes", async () => {
    const server = await startBroker();
    const declaration = { services: [service("web"), service("secret", { allow: {} })] };
    const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    await bob.client.request("watch", {});
    expect(await bob.directory.next()).toMatchObject({ snapshot: true, entries: [{ service: "web" }], gone: [] });

    await alice.redeclare({ services: [service("a"), service("b", { description: "new" })] });
    const seen = new Map([["web", ""]]);
    while (!seen.has("b") || seen.has("web")) {
      const { snapshot, entries, gone } = await bob.directory.next();
      expect(snapshot).toBe(false);
      for (const entry of entries) seen.set(entry.service, entry.description);
      for (const name of gone) seen.delete(name.service);
    }
    expect([...seen].sort()).toEqual([
      ["a", ""],
      ["b", "new"],
    ]);
  });

  test("hears of a service when it may use it, and of its end when it may not any more", async () => {
    const server = await startBroker();
    const declaration = { services: [service("web", { allow: { users: ["carol"] } })] };
    const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    const carol = await startDaemon(server, { invite: await server.invite("carol") });
    for (const daemon of [bob, carol]) await daemon.client.request("watch", {});
    expect((await bob.directory.next()).entries).toEqual([]);
    expect((await carol.directory.next()).entries).toHaveLength(1);
    await alice.redeclare({ services: [service("web", { allow: { users: ["bob"] } })] });
    expect(await bob.directory.next()).toMatchObject({ entries: [{ service: "web" }], gone: [] });
    expect(await carol.directory.next()).toMatchObject({ entries: [], gone: [{ service: "web", user: "alice" }] });
    // What no longer concerns carol is not told to her.
    await alice.redeclare({ services: [service("web", { allow: { users: ["bob"] }, description: "x" })] });
    await bob.directory.next();
    expect(carol.directory.all).toHaveLength(2);
  });

  test("hears nothing more once it has said so", async () => {
    const server = await startBroker();
    const alice = await startDaemon(server, { invite: await server.invite("alice") });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    const carol = await startDaemon(server, { invite: await server.invite("carol") });
    for (const daemon of [bob, carol]) await daemon.client.request("watch", {});
    await bob.client.request("unwatch", {});
    await alice.redeclare({ services: [service("web")] });
    await carol.directory.next((event) => event.entries.length > 0);
    expect(bob.directory.all).toHaveLength(1);
    expect(await server.metrics.value("watchers")).toBe(1);
  });

  test("gets a large directory as a snapshot of many events, and what changes meanwhile", async () => {
    const server = await startBroker();
    const devices = 10;
    const invite = await server.invite("alice", devices);
    const description = "d".repeat(200);
    const daemons = await Promise.all(
      Array.from({ length: devices }, (_, device) => {
        const services = Array.from({ length: 128 }, (_, n) => service(`s${device}-${n}`, { description }));
        return startDaemon(server, { invite, declaration: { services } });
      }),
    );
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    const seen = new Map<string, string>();
    await bob.client.request("watch", {});
    await daemons[0]!.redeclare({ services: [service("s0-0", { description: "changed" })] });
    for (let first = true; seen.size !== 128 * (devices - 1) + 1 || seen.get("s0-0") !== "changed"; first = false) {
      const { snapshot, entries, gone } = await bob.directory.next();
      expect(snapshot).toBe(first);
      expect(entries.length).toBeLessThanOrEqual(100);
      for (const entry of entries) seen.set(entry.service, entry.description);
      for (const { service: name } of gone) seen.delete(name);
    }
  });
});

/** A daemon that provides `web` and whose connection can be cut without a word. */
async function rawProvider(server: TestBroker, identity: Identity, invite: string): Promise<RawDaemon> {
  const raw = await rawLogin(server, identity, invite);
  raw.send({ t: "declare", id: "declare", services: [service("web")], subscriptions: [] });
  await raw.frames.next(({ t, re }) => t === "ok" && re === "declare");
  return raw;
}

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeInvite } from "@isthmus/protocol";
import { createIdentity, loadOrCreateCertificate } from "@isthmus/service";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { startBroker } from "./support/broker.ts";
import { codeOf, refusal, service, startDaemon, TestDaemon } from "./support/daemon.ts";
import { refusal as istRefusal, startIst, TestIst } from "./support/ist.ts";
import { RawDaemon } from "./support/raw-daemon.ts";

describe("a login with an invite", () => {
  test("registers user and device, and needs no invite again", async () => {
    const server = await startBroker();
    const identity = createIdentity();
    const first = await startDaemon(server, { identity, invite: await server.invite("alice"), device: "laptop" });
    expect(first.client.login?.reply).toMatchObject({ user: "alice", device: "laptop" });
    await first.client.stop();
    const second = await startDaemon(server, { identity });
    expect(second.client.login?.reply).toMatchObject({ user: "alice", device: "laptop" });
  });

  test("gives a second device of the same name a number", async () => {
    const server = await startBroker();
    const invite = await server.invite("alice", 3);
    const names: (string | undefined)[] = [];
    for (let number = 0; number < 3; number++) {
      const daemon = await startDaemon(server, { invite, device: "laptop" });
      names.push(daemon.client.login?.reply.device);
    }
    expect(names).toEqual(["laptop", "laptop-2", "laptop-3"]);
  });

  test("is refused without one, with an unknown one, and with one that is used up", async () => {
    const server = await startBroker();
    expect((await refusal(server)).code).toBe("unknown-device");
    expect((await refusal(server, { invite: "A".repeat(22) })).code).toBe("invite-invalid");
    const invite = await server.invite("alice");
    await startDaemon(server, { invite });
    expect((await refusal(server, { invite })).code).toBe("invite-invalid");
  });

  test("is refused when the invite has expired", async () => {
    const server = await startBroker();
    const { text } = await server.broker.operations.createInvite({
      role: "daemon",
      user: "alice",
      uses: 1,
      lifetimeS: 60,
    });
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 61_000 });
    onTestFinished(() => void vi.useRealTimers());
    const error = await refusal(server, { invite: decodeInvite(text).token });
    expect(error).toMatchObject({ code: "invite-invalid", message: "the invite has expired" });
  });

  test("is refused for another role than the invite's", async () => {
    const server = await startBroker();
    expect((await refusal(server, { invite: await server.inviteIst() })).code).toBe("invite-invalid");
    expect(await istRefusal(server, { invite: await server.invite("alice") })).toBe("invite-invalid");
  });

  test("of five uses lets exactly five of twenty in that come at once", async () => {
    const server = await startBroker();
    const invite = await server.invite("alice", 5);
    const daemons = Array.from({ length: 20 }, () => new TestDaemon(server, { invite, device: "host" }));
    onTestFinished(() => Promise.all(daemons.map(({ client }) => client.stop())).then(() => undefined));
    for (const { client } of daemons) client.start();
    const outcomes = await Promise.all(
      daemons.map(({ client }) =>
        vi.waitUntil(() => (client.state === "up" ? "in" : client.lastError?.code), { timeout: 15_000, interval: 10 }),
      ),
    );
    expect(outcomes.filter((outcome) => outcome === "in")).toHaveLength(5);
    expect(outcomes.filter((outcome) => outcome === "invite-invalid")).toHaveLength(15);
    expect(
      server.broker.operations
        .devices("alice")
        .map(({ name }) => name)
        .sort(),
    ).toEqual(["host", "host-2", "host-3", "host-4", "host-5"]);
  });

  test("costs one use, however often the same key comes with it", async () => {
    const server = await startBroker();
    const identity = createIdentity();
    const invite = await server.invite("alice", 2);
    for (let attempt = 0; attempt < 3; attempt++) {
      const daemon = await startDaemon(server, { identity, invite });
      await daemon.client.stop();
    }
    const [used] = await server.broker.operations.invites();
    expect(used).toMatchObject({ uses: 2, used: 1 });
  });

  test("is not used up by a user who has too many devices, or is disabled", async () => {
    const server = await startBroker({ settings: { devices_per_user: 1 } });
    await startDaemon(server, { invite: await server.invite("alice") });
    const invite = await server.invite("alice");
    expect((await refusal(server, { invite })).code).toBe("too-many");
    await server.broker.operations.setUserDisabled("alice", true);
    expect((await refusal(server, { invite })).code).toBe("user-disabled");
    const invites = await server.broker.operations.invites();
    expect(invites.map(({ used }) => used).sort()).toEqual([0, 1]);
  });
});

describe("a login", () => {
  test("that was signed for another address is refused", async () => {
    const server = await startBroker({ settings: { public: ["wss://isb.example:443"] } });
    const raw = new RawDaemon(server.origin);
    const answer = await raw.logIn(await raw.login("ws://other.example:7443"));
    expect(answer).toMatchObject({ t: "error", code: "wrong-origin" });
    // Whoever reaches the ISB under its own addresses is not meant where public ones are given.
    expect((await refusal(server)).code).toBe("wrong-origin");
  });

  test("that was overheard is worth nothing a second time", async () => {
    const server = await startBroker();
    const identity = createIdentity();
    const invite = await server.invite("alice");
    const raw = new RawDaemon(server.origin);
    const login = await raw.login(server.origin, { identity, invite });
    expect(await raw.logIn(login)).toMatchObject({ t: "ok" });
    const thief = new RawDaemon(server.origin);
    await thief.frames.next(({ t }) => t === "hello");
    expect(await thief.logIn(login)).toMatchObject({ t: "error", code: "bad-signature" });
    expect(await thief.closed).toBe("bad-signature");
  });

  test("of a disabled or deleted user is refused, and sessions end at once", async () => {
    const server = await startBroker();
    const { operations } = server.broker;
    const identity = createIdentity();
    const alice = await startDaemon(server, { identity, invite: await server.invite("alice") });
    await operations.setUserDisabled("alice", true);
    expect((await alice.downs.next()).code).toBe("user-disabled");
    await alice.client.stop();
    expect((await refusal(server, { identity })).code).toBe("user-disabled");

    await operations.setUserDisabled("alice", false);
    const again = await startDaemon(server, { identity });
    await operations.deleteUser("alice");
    await again.downs.next();
    await again.client.stop();
    expect((await refusal(server, { identity })).code).toBe("unknown-device");
    expect(await codeOf(Promise.resolve().then(() => operations.user("alice")))).toBe("unknown-user");
  });

  test("over wss is good with the certificate that the invite pins", async () => {
    const folder = await mkdtemp(join(tmpdir(), "isthmus-broker-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const certificate = await loadOrCreateCertificate(folder, "isb");
    const server = await startBroker({ certificate });
    const { text } = await server.broker.operations.createInvite({
      role: "daemon",
      user: "alice",
      uses: 1,
      lifetimeS: 3600,
    });
    const invite = decodeInvite(text);
    expect(invite).toMatchObject({ secure: true, certificate: certificate.fingerprint, user: "alice" });
    expect(invite.addresses.length).toBeGreaterThan(0);
    expect(invite.addresses.every((address) => address.endsWith(`:${server.port}`))).toBe(true);
    const alice = new TestDaemon(server, { invite: invite.token, certificate: certificate.fingerprint });
    onTestFinished(() => alice.client.stop());
    alice.client.start();
    await alice.client.whenUp(AbortSignal.timeout(10_000));
    expect(alice.client.login?.reply.user).toBe("alice");
  });

  test("again from elsewhere takes the place of the older session, and the services stay", async () => {
    const server = await startBroker();
    const identity = createIdentity();
    const declaration = { services: [service("web")] };
    const old = await startDaemon(server, { identity, invite: await server.invite("alice"), declaration });
    const watcher = await startDaemon(server, { invite: await server.invite("bob") });
    await watcher.client.request("watch", {});
    expect((await watcher.directory.next()).entries).toMatchObject([{ service: "web", present: true }]);
    await startDaemon(server, { identity, declaration });
    expect((await old.downs.next()).code).toBe("superseded");
    await old.client.stop();
    const { entries } = await watcher.client.request("list", {});
    expect(entries).toMatchObject([{ service: "web", present: true }]);
    // Nobody was told of a change, since there was none.
    expect(watcher.directory.all).toHaveLength(1);
  });
});

describe("an IST", () => {
  test("logs in with an invite, later without, and not when it is disabled", async () => {
    const server = await startBroker();
    const identity = createIdentity();
    expect(await istRefusal(server, { identity })).toBe("unknown-device");
    const first = await startIst(server, { identity, invite: await server.inviteIst(), name: "frankfurt" });
    expect(server.broker.operations.ists()).toMatchObject([
      { name: "frankfurt", disabled: false, load: { room: 1000 } },
    ]);
    await first.client.stop();
    const second = await startIst(server, { identity });
    const { fingerprint } = server.broker.operations.ists()[0]!;
    await server.broker.operations.setIstDisabled(fingerprint, true);
    await vi.waitUntil(() => second.client.lastError?.code === "user-disabled", { timeout: 10_000 });
    expect(server.broker.operations.ists()[0]).toMatchObject({ disabled: true });
    expect(server.broker.operations.ists()[0]).not.toHaveProperty("load");
  });

  test("cannot declare itself under another key", async () => {
    const server = await startBroker();
    const ist = new TestIst(server, { invite: await server.inviteIst(), declaredKey: createIdentity().publicKey });
    onTestFinished(() => ist.client.stop());
    ist.client.start();
    await vi.waitUntil(() => ist.client.lastError?.code === "bad-request", { timeout: 10_000 });
  });
});

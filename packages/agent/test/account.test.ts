import { rmSync } from "node:fs";
import { decodeInvite, encodeInvite, IsthmusError } from "@isthmus/protocol";
import { afterEach, describe, expect, test, vi } from "vitest";
import { DeviceKey } from "../src/index.ts";
import { StateFile } from "../src/state.ts";
import { echoService } from "./support/local-service.ts";
import { addressOf, exchange } from "./support/programs.ts";
import { wish } from "./support/requests.ts";
import { ScriptedIsb } from "./support/scripted-isb.ts";
import { codeOf, device, TestAgent, World } from "./support/world.ts";

const WAIT = { timeout: 15_000, interval: 10 };

afterEach(() => {
  vi.useRealTimers();
});

describe("a login", () => {
  test("that is refused says why, and leaves nothing", async () => {
    const world = await World.start({ ists: 0 });
    const { agent, folder } = await TestAgent.start();
    expect(agent.problem).toContain("isthmus login");
    const invite = await world.invite("alice");
    const used = await world.invite("bob");
    await (await TestAgent.start()).agent.login(used);
    for (const text of ["", "isthmus1:", "isthmus1:e30", `${invite}x`.slice(1), used]) {
      expect(await codeOf(agent.login(text))).toBe("invite-invalid");
    }
    expect(await codeOf(agent.login(encodeInvite({ ...decodeInvite(invite), role: "ist" })))).toBe("invite-invalid");
    const other = (await ScriptedIsb.start()).invite;
    const wrong = encodeInvite({ ...decodeInvite(invite), isb: decodeInvite(other).isb });
    expect(await codeOf(agent.login(wrong))).toBe("wrong-server-key");
    expect(agent.status()).not.toHaveProperty("isb");
    expect(new StateFile(folder).state).not.toHaveProperty("isb");
    for (const call of [agent.list({ away: true }), agent.invite(60), agent.devices(), agent.rotate()]) {
      expect(await codeOf(call)).toBe("not-logged-in");
    }
    expect(await codeOf(agent.subscribe(wish("web@bob")))).toBe("not-logged-in");
    expect(await agent.login(invite, "desk")).toEqual({
      user: "alice",
      device: "desk",
      isb: expect.stringContaining("ws://127.0.0.1:"),
    });
    expect(agent.problem).toBeUndefined();
  });

  test("at another ISB needs a logout, and one that fails leaves the account as it was", async () => {
    const world = await World.start({ ists: 0 });
    const other = await ScriptedIsb.start();
    const { agent } = await device(world, "alice");
    expect(await codeOf(agent.login(other.invite))).toBe("bad-request");
    const { addresses } = decodeInvite(other.invite);
    const misled = encodeInvite({ ...decodeInvite(await world.invite("alice")), addresses });
    expect(await codeOf(agent.login(misled))).toBe("wrong-server-key");
    await vi.waitFor(() => expect(agent.problem).toBeUndefined(), WAIT);
    expect(await agent.login(await world.invite("alice"))).toMatchObject({ user: "alice" });
    await agent.logout();
    expect(await agent.login(other.invite)).toMatchObject({ user: "alice", device: "laptop" });
  });

  test("that cannot be remembered is none", async () => {
    const isb = await ScriptedIsb.start();
    const { agent, folder } = await TestAgent.start();
    rmSync(folder, { recursive: true });
    expect(await codeOf(agent.login(isb.invite))).toBe("store-unavailable");
    expect(agent.status()).not.toHaveProperty("isb");
  });

  test("ends with the process, however far it is", async () => {
    const isb = await ScriptedIsb.start();
    isb.onDeclare = () => new Promise(() => undefined);
    const daemon = await TestAgent.start();
    const login = codeOf(daemon.agent.login(isb.invite));
    await isb.waitFor("declare");
    await daemon.stop();
    expect(await login).not.toBe("no error");
  });

  test("at the very start is the only one", async () => {
    const isb = await ScriptedIsb.start();
    let logins = 0;
    const first = await TestAgent.start();
    await first.agent.login(isb.invite);
    await first.stop();
    isb.onLogin = () => void logins++;
    const { agent } = new TestAgent({ folder: first.folder, direct: true });
    await Promise.all([agent.start(), agent.login(isb.invite)]);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect([logins, agent.problem]).toEqual([1, undefined]);
    await agent.stop();
  });
});

describe("a logout", () => {
  test("ends what the device had through its ISB; its services stay for the next login", async () => {
    const world = await World.start();
    const [alice, bob] = await Promise.all([device(world, "alice"), device(world, "bob")]);
    for (const { agent } of [alice, bob]) await agent.provide(await echoService(), { take: false });
    const subscription = await alice.agent.subscribe(wish("echo@bob"));
    expect(await exchange(addressOf(subscription), "hello")).toBe("hello");
    await alice.agent.logout();
    expect(alice.agent.status()).toMatchObject({
      subscriptions: [],
      links: [],
      ists: [],
      reachable: { state: "off" },
      services: [{ name: "echo", state: "offline" }],
    });
    expect(alice.agent.status().device).toEqual({ fingerprint: expect.any(String) });
    await vi.waitFor(() => expect(bob.agent.status().services).toMatchObject([{ subscribers: 0 }]), WAIT);
    await alice.agent.login(await world.invite("alice"));
    expect(alice.agent.status().services).toMatchObject([{ name: "echo", state: "offered" }]);
  });

  test("that cannot be remembered has not happened", async () => {
    const isb = await ScriptedIsb.start();
    const { agent, folder } = await TestAgent.start();
    await agent.login(isb.invite);
    await agent.subscribe(wish("web@bob"));
    rmSync(folder, { recursive: true });
    expect(await codeOf(agent.logout())).toBe("store-unavailable");
    expect(await codeOf(agent.unsubscribe("web@bob"))).toBe("store-unavailable");
    expect(agent.problem).toBeUndefined();
    expect(agent.status().subscriptions).toMatchObject([{ state: "active" }]);
  });
});

describe("devices of a user", () => {
  test("share names one at a time; whoever takes one over shows another key, which others must trust", async () => {
    const world = await World.start();
    const [alice, old] = await Promise.all([device(world, "alice"), device(world, "bob")]);
    await old.agent.provide(await echoService(), { take: false });
    const { listen } = await alice.agent.subscribe(wish("echo@bob"));
    expect(await exchange(listen[0]!.address, "hello")).toBe("hello");

    const next = await TestAgent.start();
    await next.agent.login(await old.agent.invite(600), "desk");
    const service = await echoService();
    expect(await codeOf(next.agent.provide(service, { take: false }))).toBe("name-taken");
    expect(next.agent.status().services).toEqual([]);
    expect(old.agent.status().services).toMatchObject([{ state: "offered" }]);
    expect(await next.agent.provide(service, { take: true })).toMatchObject({ state: "offered" });

    const report = () => alice.agent.status().subscriptions[0]!;
    await vi.waitFor(() => expect(report()).toMatchObject({ state: "failed", code: "peer-key-changed" }), WAIT);
    expect(report().message).toContain("isthmus trust echo@bob");
    const { fingerprint } = next.agent.status().device;
    expect(alice.agent.pins.all()).toMatchObject([
      { peer: "echo@bob", fingerprint: old.agent.status().device.fingerprint, offered: fingerprint },
    ]);
    expect(() => alice.agent.trust(`echo@bob#${"a".repeat(32)}`, false)).toThrow("offered");
    expect(alice.agent.trust(`echo@bob#${fingerprint}`, false)).toEqual({ peer: "echo@bob", fingerprint });
    await vi.waitFor(() => expect(report()).toMatchObject({ state: "active", fingerprint }), WAIT);
    expect(await exchange(listen[0]!.address, "hello")).toBe("hello");
  });

  test("that were taken a name from say so; one that is trusted blindly is so at its next use", async () => {
    const world = await World.start();
    const [alice, old] = await Promise.all([device(world, "alice"), device(world, "bob")]);
    await old.agent.provide(await echoService(), { take: false });
    await alice.agent.subscribe(wish("echo@bob"));
    const next = await device(world, "bob");
    await next.agent.provide(await echoService(), { take: true });
    await vi.waitFor(() => expect(alice.agent.status().subscriptions[0]!.code).toBe("peer-key-changed"), WAIT);
    alice.agent.trust("echo@bob", true);
    await vi.waitFor(() => expect(alice.agent.status().subscriptions[0]!.state).toBe("active"), WAIT);
    expect(await codeOf(old.agent.provide(await echoService(), { take: false }))).toBe("name-taken");
    expect(old.agent.status().services).toMatchObject([{ name: "echo", state: "refused", code: "name-taken" }]);
  });

  test("may revoke themselves, and are told that it was done", async () => {
    const world = await World.start({ ists: 0 });
    const { agent } = await device(world, "bob");
    await agent.provide(await echoService(), { take: false });
    expect(await codeOf(agent.revoke(agent.status().device.fingerprint))).toBe("no error");
    expect(await codeOf(agent.revoke(agent.status().device.fingerprint))).not.toBe("no error");
    await vi.waitFor(() => expect(agent.status().isb).toMatchObject({ code: "device-revoked" }), WAIT);
  });

  test("are revoked by another one at once", async () => {
    const world = await World.start({ ists: 0 });
    const [bob, lost] = [await device(world, "bob"), await device(world, "bob")];
    await lost.agent.provide(await echoService(), { take: false });
    const { fingerprint } = lost.agent.status().device;
    expect(await codeOf(bob.agent.revoke("a".repeat(32)))).toBe("unknown-device");
    await bob.agent.revoke(fingerprint);
    await vi.waitFor(() => expect(lost.agent.problem).toContain("revoked"), WAIT);
    expect(lost.agent.status()).toMatchObject({ isb: { code: "device-revoked" }, services: [{ state: "offline" }] });
    expect(await bob.agent.devices()).toMatchObject([
      { self: true, revoked: false },
      { fingerprint, self: false, revoked: true, present: false },
    ]);
    expect(await codeOf(lost.agent.rotate())).toBe("device-revoked");
    expect(await codeOf(lost.agent.login(await world.invite("bob")))).toBe("device-revoked");
  });
});

describe("a key", () => {
  test("changes on both sides of a subscription, which goes on without anybody's trust", async () => {
    const world = await World.start();
    const [alice, bob] = await Promise.all([device(world, "alice"), device(world, "bob")]);
    await bob.agent.provide(await echoService(), { take: false });
    const { listen } = await alice.agent.subscribe(wish("echo@bob"));
    const address = listen[0]!.address;
    expect(await exchange(address, "before")).toBe("before");
    for (const { agent, folder } of [bob, alice]) {
      const before = agent.status().device.fingerprint;
      const fingerprint = await agent.rotate();
      expect(fingerprint).not.toBe(before);
      expect(agent.status().device).toMatchObject({ fingerprint, name: "laptop" });
      expect(new DeviceKey(folder)).toMatchObject({ isChanging: false });
      await vi.waitFor(() => expect(agent.problem).toBeUndefined(), WAIT);
      expect(await exchange(address, "after")).toBe("after");
      expect(await agent.devices()).toMatchObject([{ fingerprint, revoked: false, self: true }]);
    }
    expect(alice.agent.status().subscriptions).toMatchObject([
      { state: "active", fingerprint: bob.agent.status().device.fingerprint },
    ]);
  });

  test("stays when the ISB refuses another one", async () => {
    const isb = await ScriptedIsb.start();
    const { agent, folder } = await TestAgent.start();
    await agent.login(isb.invite);
    const { fingerprint } = agent.status().device;
    isb.onRotate = () => {
      throw new IsthmusError("bad-signature");
    };
    expect(await codeOf(agent.rotate())).toBe("bad-signature");
    expect(agent.status().device.fingerprint).toBe(fingerprint);
    expect(new DeviceKey(folder).isChanging).toBe(false);
  });

  test("whose change was taken, though the answer was lost, is the next one soon", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const isb = await ScriptedIsb.start();
    const { agent, folder } = await TestAgent.start();
    await agent.login(isb.invite);
    const old = agent.status().device.fingerprint;
    const oldKey = isb.session.key;
    isb.onRotate = (session) => {
      isb.onLogin = ({ key }) => {
        if (key === oldKey) throw new IsthmusError("device-revoked");
      };
      session.close("device-revoked");
      return {};
    };
    expect(await codeOf(agent.rotate())).toBe("disconnected");
    expect(new DeviceKey(folder).isChanging).toBe(true);
    await vi.waitFor(() => expect(agent.status().isb).toMatchObject({ code: "device-revoked" }), WAIT);
    vi.advanceTimersByTime(10_000);
    await vi.waitFor(() => expect(agent.problem).toBeUndefined(), WAIT);
    expect(isb.session.key).not.toBe(oldKey);
    expect(agent.status().device.fingerprint).not.toBe(old);
    expect(new DeviceKey(folder)).toMatchObject({ isChanging: false, identity: { publicKey: isb.session.key } });
  });
});

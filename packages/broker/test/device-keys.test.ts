import { decodeInvite, fingerprintOf, rotationTranscript } from "@isthmus/protocol";
import { createIdentity, type Identity, verifySignature } from "@isthmus/service";
import { describe, expect, test } from "vitest";
import { startBroker, type TestBroker } from "./support/broker.ts";
import { codeOf, newSubscription, refusal, service, startDaemon, type TestDaemon } from "./support/daemon.ts";
import { startIst } from "./support/ist.ts";

async function network() {
  const server = await startBroker();
  await startIst(server, { invite: await server.inviteIst() });
  const declaration = { services: [service("web")] };
  const alice = await startDaemon(server, { invite: await server.invite("alice"), device: "desk", declaration });
  const bob = await startDaemon(server, { invite: await server.invite("bob") });
  return { server, alice, bob };
}

function rotate(daemon: TestDaemon, next: Identity, changes: { oldSignature?: string; newSignature?: string } = {}) {
  const transcript = rotationTranscript(daemon.key, next.publicKey);
  const oldSignature = daemon.identity.sign(transcript);
  return daemon.client.request("rotate", {
    key: next.publicKey,
    oldSignature,
    newSignature: next.sign(transcript),
    ...changes,
  });
}

/** Rotates and logs in under the new key. */
async function rotated(server: TestBroker, daemon: TestDaemon): Promise<TestDaemon> {
  const identity = createIdentity();
  await rotate(daemon, identity);
  expect((await daemon.downs.next()).code).toBe("replaced");
  await daemon.client.stop();
  return startDaemon(server, { identity, declaration: daemon.declaration });
}

describe("a device that changes its key", () => {
  test("keeps its name and services, and is told to peers with the way from the old key", async () => {
    const { server, alice, bob } = await network();
    const subscription = newSubscription();
    await bob.subscribe("web", "alice", { subscription });
    const again = await rotated(server, alice);
    expect(again.client.login?.reply).toMatchObject({ user: "alice", device: "desk" });
    expect(again.declared?.services).toEqual([{ name: "web" }]);
    // The subscriber negotiates anew once the provider is back, and is not told that anything ended.
    expect(await bob.renegotiate.next()).toEqual({ subscription });
    const { peer } = await bob.subscribe("web", "alice", { subscription });
    expect(bob.ended.all).toEqual([]);
    expect(peer).toMatchObject({ user: "alice", key: again.key });
    expect(peer.rotations).toHaveLength(1);
    const [{ from, to, signature }] = peer.rotations as [{ from: string; to: string; signature: string }];
    expect([from, to]).toEqual([alice.key, again.key]);
    expect(verifySignature(from, rotationTranscript(from, to), signature)).toBe(true);
    expect(server.broker.operations.subscriptionCount).toBe(1);
    const { devices } = await again.client.request("devices", {});
    expect(devices).toMatchObject([
      { name: "desk", fingerprint: fingerprintOf(again.key), revoked: false, self: true },
    ]);
  });

  test("is refused under the old one", async () => {
    const { server, alice } = await network();
    const { identity } = alice;
    await rotated(server, alice);
    expect((await refusal(server, { identity })).code).toBe("device-revoked");
    expect((await refusal(server, { identity, invite: await server.invite("alice") })).code).toBe("device-revoked");
  });

  test("keeps the newest eight steps", async () => {
    const { server, alice, bob } = await network();
    let daemon = alice;
    const keys = [alice.key];
    for (let step = 0; step < 10; step++) {
      daemon = await rotated(server, daemon);
      keys.push(daemon.key);
    }
    const { peer } = await bob.subscribe("web", "alice");
    expect(peer.rotations.map(({ from }) => from)).toEqual(keys.slice(2, 10));
    expect(peer.rotations.map(({ to }) => to)).toEqual(keys.slice(3, 11));
    // Nor is more kept of the device; it counts as one.
    expect(await server.store.scan("device/")).toHaveLength(9 + 1);
    expect(server.broker.operations.user("alice").devices).toBe(1);
  });

  test("ends its own subscriptions for their providers", async () => {
    const { server, alice, bob } = await network();
    const subscription = newSubscription();
    await bob.subscribe("web", "alice", { subscription });
    await rotated(server, bob);
    expect(await alice.ended.next()).toEqual({ subscription, code: "replaced" });
  });

  test("must hold both keys, and the new one must be nobody's", async () => {
    const { alice, bob } = await network();
    const next = createIdentity();
    const wrong = createIdentity().sign(rotationTranscript(alice.key, next.publicKey));
    expect(await codeOf(rotate(alice, next, { oldSignature: wrong }))).toBe("bad-signature");
    expect(await codeOf(rotate(alice, next, { newSignature: wrong }))).toBe("bad-signature");
    expect(await codeOf(rotate(alice, bob.identity))).toBe("bad-request");
    expect(await codeOf(rotate(alice, alice.identity))).toBe("bad-request");
    expect(alice.client.state).toBe("up");
  });
});

describe("a user", () => {
  test("invites further devices, lists them and revokes them at once", async () => {
    const { server, alice, bob } = await network();
    const { invite } = await alice.client.request("invite", {});
    const { token, user, role } = decodeInvite(invite);
    expect([user, role]).toEqual(["alice", "daemon"]);
    const identity = createIdentity();
    const phone = await startDaemon(server, {
      identity,
      invite: token,
      device: "phone",
      declaration: { services: [service("notes")] },
    });
    const subscription = newSubscription();
    await bob.subscribe("notes", "alice", { subscription });
    const { devices } = await alice.client.request("devices", {});
    expect(devices.map(({ name, present, self }) => ({ name, present, self }))).toEqual([
      { name: "desk", present: true, self: true },
      { name: "phone", present: true, self: false },
    ]);
    await alice.client.request("revoke", { fingerprint: fingerprintOf(phone.key) });
    expect((await phone.downs.next()).code).toBe("device-revoked");
    expect(await bob.ended.next()).toEqual({ subscription, code: "device-revoked" });
    const { entries } = await bob.client.request("list", { away: true });
    expect(entries.map((entry) => entry.service)).toEqual(["web"]);
    await phone.client.stop();
    expect((await refusal(server, { identity })).code).toBe("device-revoked");
    const after = await alice.client.request("devices", {});
    expect(after.devices.find(({ name }) => name === "phone")).toMatchObject({ revoked: true, present: false });
  });

  test("cannot revoke what belongs to somebody else", async () => {
    const { alice, bob } = await network();
    const fingerprint = fingerprintOf(bob.key);
    expect(await codeOf(alice.client.request("revoke", { fingerprint }))).toBe("unknown-device");
    expect(bob.client.state).toBe("up");
  });

  test("makes so many invites that the rate allows", async () => {
    const rates = { invites: { per_second: 0.001, burst: 2 } };
    const server = await startBroker({ settings: { rates } });
    const alice = await startDaemon(server, { invite: await server.invite("alice") });
    for (let number = 0; number < 2; number++) await alice.client.request("invite", {});
    expect(await codeOf(alice.client.request("invite", {}))).toBe("rate-limited");
  });
});

import { CONTROL_FRAME_MAX_BYTES } from "@isthmus/protocol";
import { describe, expect, test, vi } from "vitest";
import { startBroker, type TestBroker } from "./support/broker.ts";
import { newSubscription, service, startDaemon, type TestDaemon } from "./support/daemon.ts";
import { startIst } from "./support/ist.ts";

async function network(options: Parameters<typeof startBroker>[0] = {}) {
  const server = await startBroker(options);
  await startIst(server, { invite: await server.inviteIst() });
  const declaration = { services: [service("web")] };
  const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
  const bob = await startDaemon(server, { invite: await server.invite("bob") });
  const subscription = newSubscription();
  await bob.subscribe("web", "alice", { subscription });
  return { server, alice, bob, subscription };
}

function send(from: TestDaemon, to: string, payload: Uint8Array): void {
  from.client.binary(Buffer.concat([Buffer.from(to, "base64url"), payload]));
}

function frames(server: TestBroker, outcome: string): Promise<number> {
  return server.metrics.value("control_frames_total", { outcome });
}

const HELLO = Buffer.from("any bytes at all");

describe("a control frame", () => {
  test("reaches the other device of a subscription, from either side, with the sender's key in front", async () => {
    const { server, alice, bob } = await network();
    send(bob, alice.key, HELLO);
    expect(await alice.frames.next()).toEqual(Buffer.concat([Buffer.from(bob.key, "base64url"), HELLO]));
    send(alice, bob.key, Buffer.alloc(CONTROL_FRAME_MAX_BYTES, 7));
    expect((await bob.frames.next()).length).toBe(32 + CONTROL_FRAME_MAX_BYTES);
    expect(await frames(server, "forwarded")).toBe(2);
  });

  test("reaches nobody else", async () => {
    const { server, alice, bob, subscription } = await network();
    const carol = await startDaemon(server, { invite: await server.invite("carol") });
    send(carol, alice.key, HELLO);
    send(bob, carol.key, HELLO);
    send(bob, bob.key, HELLO);
    await bob.client.request("unsubscribe", { subscription });
    send(bob, alice.key, HELLO);
    await vi.waitUntil(async () => (await frames(server, "not-joined")) === 4, { timeout: 5000, interval: 5 });
    expect([...alice.frames.all, ...bob.frames.all, ...carol.frames.all]).toEqual([]);
  });

  test("that is none, or too large, is dropped, and the session goes on", async () => {
    const { server, alice, bob } = await network();
    bob.client.binary(Buffer.alloc(0));
    bob.client.binary(Buffer.alloc(32));
    send(bob, alice.key, Buffer.alloc(CONTROL_FRAME_MAX_BYTES + 1));
    send(bob, alice.key, HELLO);
    await alice.frames.next();
    expect(await frames(server, "malformed")).toBe(3);
  });

  test("to a device that is away is dropped", async () => {
    const { server, alice, bob } = await network();
    await alice.client.stop();
    await vi.waitUntil(() => server.broker.operations.sessionCount === 1, { timeout: 5000, interval: 5 });
    send(bob, alice.key, HELLO);
    await vi.waitUntil(async () => (await frames(server, "away")) === 1, { timeout: 5000, interval: 5 });
  });

  test("is one of so many that a device may send", async () => {
    const rates = { control_frames: { per_second: 0.001, burst: 2 } };
    const { server, alice, bob } = await network({ settings: { rates } });
    for (let number = 0; number < 5; number++) send(bob, alice.key, HELLO);
    await vi.waitUntil(async () => (await frames(server, "rate-limited")) === 3, { timeout: 5000, interval: 5 });
    expect(await frames(server, "forwarded")).toBe(2);
  });
});

import { isbDaemon, isbIst, LIMITS } from "@isthmus/protocol";
import { arbitraryOf } from "@isthmus/protocol/testing";
import { createIdentity } from "@isthmus/service";
import fc from "fast-check";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { startBroker, type TestBroker } from "./support/broker.ts";
import { service, startDaemon } from "./support/daemon.ts";
import { startIst } from "./support/ist.ts";
import { RawDaemon, rawLogin } from "./support/raw-daemon.ts";

const WAIT = { timeout: 10_000, interval: 5 };

async function loggedIn(server: TestBroker): Promise<RawDaemon> {
  return rawLogin(server, createIdentity(), await server.invite("mallory"));
}

/** Whether the broker serves everybody else as before. */
async function expectAlive(server: TestBroker): Promise<void> {
  const declaration = { services: [service("web")] };
  const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
  const { entries } = await alice.client.request("list", { user: "alice" });
  expect(entries).toHaveLength(1);
  await alice.client.stop();
}

describe("a logged-in peer", () => {
  test("that sends a frame over the limit is closed", async () => {
    const server = await startBroker();
    const raw = await loggedIn(server);
    raw.send({ t: "list", id: "x", pad: "x".repeat(LIMITS.sessionFrameBytes) });
    expect(await raw.closed).toBe(1009);
    await expectAlive(server);
  });

  test("that asks for what nobody knows is told so, and goes on", async () => {
    const server = await startBroker();
    const raw = await loggedIn(server);
    raw.send({ t: "format-disk", id: "1" });
    expect(await raw.frames.next()).toMatchObject({ t: "error", re: "1", code: "unknown-type" });
    raw.send({ t: "format-disk" });
    raw.send({ t: "list", id: "2" });
    expect(await raw.frames.next()).toMatchObject({ t: "ok", re: "2" });
    const refused = (type: string) => server.metrics.value("messages_refused_total", { role: "daemon", type });
    expect(await refused("unknown-type")).toBe(2);
  });

  test("that sends no JSON, or an event of the wrong form, is closed", async () => {
    const server = await startBroker();
    for (const frame of ["{", "[]", '"x"', JSON.stringify({ t: "probed", nonce: 1 })]) {
      const raw = await loggedIn(server);
      raw.send(frame);
      expect(await raw.closed).toBe("bad-message");
    }
    await expectAlive(server);
  });

  test("that sends a request of the wrong form is told which field", async () => {
    const server = await startBroker();
    const raw = await loggedIn(server);
    raw.send({ t: "subscribe", id: "1", subscription: "short" });
    expect(await raw.frames.next()).toMatchObject({ re: "1", code: "bad-message" });
    const services = Array.from({ length: LIMITS.servicesPerDevice + 1 }, (_, n) => service(`s${n}`));
    raw.send({ t: "declare", id: "2", services, subscriptions: [] });
    expect(await raw.frames.next()).toMatchObject({ re: "2", code: "bad-message" });
  });

  test("that asks too often is told to wait", async () => {
    const rates = { requests: { per_second: 0.001, burst: 3 } };
    const server = await startBroker({ settings: { rates } });
    const raw = await loggedIn(server);
    for (let number = 0; number < 5; number++) raw.send({ t: "list", id: `r${number}` });
    const answers = await Promise.all(Array.from({ length: 5 }, () => raw.frames.next()));
    expect(answers.map(({ t }) => t)).toEqual(["ok", "ok", "ok", "error", "error"]);
    expect(answers[4]).toMatchObject({ code: "rate-limited", retryAfterMs: expect.any(Number) });
  });

  test("that says whatever it likes harms nobody", async () => {
    const server = await startBroker();
    await startIst(server, { invite: await server.inviteIst() });
    const requests = Object.entries(isbDaemon.toServer.requests).map(([t, { request }]) =>
      fc.tuple(fc.stringMatching(/^[a-z]{1,4}$/), arbitraryOf(request)).map(([id, body]) => ({ t, id, ...body })),
    );
    const events = Object.entries(isbDaemon.toServer.events).map(([t, event]) =>
      arbitraryOf(event).map((body) => ({ t, ...body })),
    );
    const answers = fc.record({ t: fc.constantFrom("ok", "error"), re: fc.string(), code: fc.string() });
    const anyFrame = fc.oneof(
      { weight: 6, arbitrary: fc.oneof(...requests) },
      { weight: 1, arbitrary: fc.oneof(...events) },
      { weight: 1, arbitrary: answers },
      { weight: 1, arbitrary: fc.json() },
      { weight: 1, arbitrary: fc.string() },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 100 }) },
    );
    const identity = createIdentity();
    let raw = await rawLogin(server, identity, await server.invite("mallory"));
    await fc.assert(
      fc.asyncProperty(fc.array(anyFrame, { minLength: 1, maxLength: 20 }), async (frames) => {
        // A peer that was closed for what it said may come back; one that changed or revoked its key may not.
        if (raw.socket.readyState !== raw.socket.OPEN) {
          raw = await rawLogin(server, createIdentity(), await server.invite("mallory"));
        }
        for (const frame of frames) raw.send(frame);
        // The broker answers a ping behind all of that, or has closed.
        const answered = new Promise((resolve) => raw.socket.once("pong", resolve));
        raw.socket.ping();
        await Promise.race([answered, raw.closed]);
      }),
      { numRuns: 60 },
    );
    await expectAlive(server);
    expect(await server.metrics.value("negotiations_running")).toBe(0);
  });
});

describe("an IST", () => {
  test("that says whatever it likes harms nobody", async () => {
    const server = await startBroker();
    const honest = await startIst(server, { invite: await server.inviteIst(), name: "honest" });
    const declaration = { services: [service("web")] };
    await startDaemon(server, { invite: await server.invite("alice"), declaration });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    const { allocation } = await bob.subscribe("web", "alice");
    const identity = createIdentity();
    const raw = new RawDaemon(server.origin);
    const invite = await server.inviteIst();
    await raw.logIn(await raw.login(server.origin, { identity, invite, role: "ist" }));
    // What another IST holds is not this one's to end.
    raw.send({ t: "released", allocation: allocation!.allocation, code: "released" });
    const events = Object.entries(isbIst.toServer.events).map(([t, event]) =>
      arbitraryOf(event).map((body) => ({ t, ...body })),
    );
    for (const event of fc.sample(fc.oneof(...events), 200)) raw.send(event);
    const answered = new Promise((resolve) => raw.socket.once("pong", resolve));
    raw.socket.ping();
    await answered;
    const again = await bob.subscribe("web", "alice");
    expect(again.allocation!.allocation).toBe(allocation!.allocation);
    expect(honest.asked.all).toHaveLength(1);
  });
});

describe("before the login", () => {
  test("a stream of connections is cut down to the rate of its address", async () => {
    const rates = { connects: { per_second: 0.001, burst: 3 } };
    const server = await startBroker({ settings: { rates } });
    const clients = Array.from({ length: 8 }, () => new RawDaemon(server.origin));
    const outcomes = await Promise.all(
      clients.map((client) =>
        Promise.race([client.frames.next(({ t }) => t === "hello").then(() => "hello"), client.closed]),
      ),
    );
    expect(outcomes.filter((outcome) => outcome === "hello")).toHaveLength(3);
    expect(await server.metrics.value("logins_refused_total", { code: "rate-limited" })).toBe(5);
  });

  test("a request that is no session is nothing", async () => {
    const server = await startBroker();
    const response = await fetch(`http://127.0.0.1:${server.port}/v1/session`);
    expect(response.status).toBe(404);
  });
});

describe("a watcher that does not read", () => {
  test("costs a bounded amount of memory and gets one snapshot when it reads again", async () => {
    const server = await startBroker();
    const identity = createIdentity();
    const raw = await rawLogin(server, identity, await server.invite("mallory"));
    raw.send({ t: "watch", id: "w" });
    await raw.frames.next(({ t }) => t === "directory");

    // The kernel takes some megabytes of an unread stream before the broker sees that nobody reads.
    raw.socket.pause();
    onTestFinished(() => raw.socket.resume());
    const alice = await startDaemon(server, { invite: await server.invite("alice") });
    const leftOut = () => server.metrics.value("pushes_total", { outcome: "left-out" });
    for (let round = 0; (await leftOut()) === 0; round++) {
      expect(round).toBeLessThan(200);
      // Six bytes a character in JSON.
      const description = String.fromCharCode(1 + (round % 30)).repeat(200);
      await alice.redeclare({ services: Array.from({ length: 128 }, (_, n) => service(`s${n}`, { description })) });
      const sent = await server.metrics.value("pushes_total", { outcome: "sent" });
      await vi.waitUntil(
        async () => (await leftOut()) > 0 || (await server.metrics.value("pushes_total", { outcome: "sent" })) > sent,
        WAIT,
      );
    }
    await alice.redeclare({ services: [service("last")] });
    raw.socket.resume();
    const snapshot = await raw.frames.next((frame) => frame.t === "directory" && frame.snapshot === true);
    expect(snapshot.entries).toMatchObject([{ service: "last" }]);
    const snapshots = raw.frames.all.filter(({ t, snapshot }) => t === "directory" && snapshot === true);
    expect(snapshots).toHaveLength(2);
    expect(raw.socket.readyState).toBe(raw.socket.OPEN);
  }, 120_000);
});

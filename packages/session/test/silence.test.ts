import { createIdentity } from "@isthmus/service";
import { expect, it } from "vitest";
import { connect, type ServerSession, startServer } from "./harness.ts";
import { rawLogin } from "./raw-client.ts";
import { startProxy } from "./tcp-proxy.ts";

/** A client whose wire can be frozen: it is told to ping every `heartbeatMs`. */
async function start(heartbeatMs: number) {
  const downs: string[] = [];
  const server = await startServer({ isOwnOrigin: () => true, server: { heartbeatMs } });
  const proxy = await startProxy(server);
  const { client, session } = await connect(
    { ...server, origin: proxy.origin },
    { onDown: (error) => void downs.push(error.code) },
  );
  return { server, proxy, client, session, downs };
}

it("a client that falls silent is ended by name after two and a half heartbeats", async () => {
  const { server, proxy, session } = await start(100);
  proxy.freeze();
  await expect.poll(() => server.closed, { timeout: 10_000 }).toEqual([{ session, code: "silent" }]);
});

it("a client that pings, or says anything, is not", async () => {
  const server = await startServer({ server: { heartbeatMs: 60_000 } });
  const identity = createIdentity();
  const raw = await rawLogin(server.origin, identity);
  const session = server.server.get(identity.publicKey)!;
  const shortlyBeforeTheEnd = (): number => session.lastHeard + 2.5 * 60_000;
  for (const sign of [() => raw.socket.ping(), () => raw.send({ t: "note", n: 1 }), () => raw.send({ t: "unknown" })]) {
    const before = session.lastHeard;
    sign();
    await expect.poll(() => session.lastHeard).toBeGreaterThan(before);
    server.server.sweep(shortlyBeforeTheEnd());
  }
  expect(server.closed).toEqual([]);
  server.server.sweep(shortlyBeforeTheEnd() + 1);
  await expect.poll(() => server.closed).toEqual([{ session, code: "silent" }]);
});

it("heartbeats keep an idle session up and measure its round trip", async () => {
  const { server, client, session } = await start(100);
  const heard = session.lastHeard;
  await expect.poll(() => session.lastHeard - heard, { timeout: 5000 }).toBeGreaterThan(400);
  await expect.poll(() => client.rttMs).toBeGreaterThan(0);
  expect(server.closed).toEqual([]);
});

it("a server that falls silent is noticed by a missing answer to a heartbeat, and dialled again", async () => {
  const { server, proxy, client, session, downs } = await start(150);
  proxy.freeze();
  await expect.poll(() => downs, { timeout: 10_000 }).toEqual(["silent"]);
  proxy.thaw();
  await client.whenUp(AbortSignal.timeout(10_000));
  await expect.poll(() => server.server.get(session.key)).not.toBe(session);
});

it("a check tells at once whether the server lives", async () => {
  const { proxy, client, downs } = await start(60_000);
  expect(await client.check()).toBe(true);
  expect(await Promise.all([client.check(), client.check()])).toEqual([true, true]);
  proxy.freeze();
  expect(await Promise.all([client.check(50), client.check(60_000)])).toEqual([false, false]);
  await expect.poll(() => downs).toEqual(["silent"]);
  expect(await client.check()).toBe(false);
  proxy.thaw();
  await client.whenUp(AbortSignal.timeout(10_000));
  expect(await client.check()).toBe(true);
});

it("a check does not wait for a patient one that was there before", async () => {
  const { proxy, client } = await start(60_000);
  proxy.freeze();
  const patient = client.check(60_000);
  const hasty = client.check(50);
  expect(await Promise.all([patient, hasty])).toEqual([false, false]);
});

it("a check that waits when the connection is lost for another reason is told so", async () => {
  const server = await startServer();
  const { client, session } = await connect(server);
  const check = client.check(60_000);
  (session satisfies ServerSession).close("shutting-down");
  expect(typeof (await check)).toBe("boolean");
  await expect.poll(() => client.lastError?.code).toBe("shutting-down");
  expect(await client.check()).toBe(false);
});

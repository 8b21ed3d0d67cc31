import { createIdentity } from "@isthmus/service";
import { expect, it } from "vitest";
import { BUFFER_LIMIT_BYTES, CONGESTION_LIMIT_MS, PUSH_LIMIT_BYTES } from "../src/wire.ts";
import { type ServerSession, startServer, type TestServer } from "./harness.ts";
import { type RawClient, rawLogin } from "./raw-client.ts";

const PAD = "x".repeat(32 * 1024);
/** Far more than the kernel's buffers on loopback take. */
const MOST_PUSHES = 2000;

async function start(): Promise<{
  server: TestServer;
  client: RawClient;
  session: ServerSession;
  drained: ServerSession[];
}> {
  const drained: ServerSession[] = [];
  // Nobody shall be silent by the clock that a test sets forward.
  const server = await startServer({
    server: { heartbeatMs: 600_000, hooks: { drained: (session) => void drained.push(session) } },
  });
  const identity = createIdentity();
  const client = await rawLogin(server.origin, identity);
  client.socket.pause();
  return { server, client, session: server.server.get(identity.publicKey)!, drained };
}

/** Pushes until one is left out. @returns how many were sent */
function congest(session: ServerSession): number {
  for (let n = 0; n < MOST_PUSHES; n++) if (!session.push("tick", { n, pad: PAD })) return n;
  throw new Error("nothing was ever left out");
}

it("a client that reads slowly gets no further pushes, and once it has read all, one sign that there is room", async () => {
  const { server, client, session, drained } = await start();
  const sent = congest(session);
  expect(session.push("tick", { n: -1 })).toBe(false);
  server.server.sweep(performance.now());
  expect(drained).toEqual([]);

  client.socket.resume();
  for (let n = 0; n < sent; n++) expect((await client.next())?.n).toBe(n);
  await expect.poll(() => drained, { timeout: 5000 }).toEqual([session]);
  for (let i = 0; i < 3; i++) server.server.sweep(performance.now());
  expect(drained).toEqual([session]);

  expect(session.push("tick", { n: 12_345 })).toBe(true);
  expect((await client.next())?.n).toBe(12_345);
});

it("answers and events that no snapshot makes up for still pass between the two limits", async () => {
  const { client, session } = await start();
  const sent = congest(session);
  session.event("tick", { n: 99_999 });
  client.socket.resume();
  for (let n = 0; n < sent; n++) await client.next();
  expect((await client.next())?.n).toBe(99_999);
});

it("a client that leaves more than the limit unread is cut off by name", async () => {
  const { server, session } = await start();
  congest(session);
  const events = Math.ceil((BUFFER_LIMIT_BYTES - PUSH_LIMIT_BYTES) / PAD.length) + 1;
  for (let n = 0; n < events; n++) session.event("tick", { n, pad: PAD });
  await expect.poll(() => server.closed).toEqual([{ session, code: "slow-reader" }]);
  expect(server.server.size).toBe(0);
});

it("so is one that lets pushes wait too long", async () => {
  const { server, session } = await start();
  congest(session);
  server.server.sweep(performance.now() + CONGESTION_LIMIT_MS - 5000);
  expect(server.closed).toEqual([]);
  server.server.sweep(performance.now() + CONGESTION_LIMIT_MS + 1);
  await expect.poll(() => server.closed).toEqual([{ session, code: "slow-reader" }]);
});

it("binary frames count as well", async () => {
  const { server, session } = await start();
  const frame = Buffer.alloc(64 * 1024);
  for (let n = 0; n < MOST_PUSHES; n++) session.binary(frame);
  await expect.poll(() => server.closed).toEqual([{ session, code: "slow-reader" }]);
});

import { createIdentity } from "@isthmus/service";
import { expect, it } from "vitest";
import { connect, failure, serverHandlers, startServer } from "./harness.ts";
import { rawLogin } from "./raw-client.ts";

it("a second login of a key closes the first by name, and the key's session is the second", async () => {
  const opened: object[] = [];
  const server = await startServer({ server: { onOpen: (session) => void opened.push(session) } });
  const identity = createIdentity();
  const first = await rawLogin(server.origin, identity);
  const second = await rawLogin(server.origin, identity);
  expect(await first.closed).toBe("superseded");
  await expect.poll(() => server.closed).toEqual([{ session: opened[0], code: "superseded" }]);
  expect(server.server.get(identity.publicKey)).toBe(opened[1]);
  expect(server.server.size).toBe(1);
  second.send({ t: "echo", id: "a", text: "alive" });
  expect(await second.next()).toMatchObject({ t: "ok", text: "alive" });
});

it("what a superseded client says until it has read the goodbye has no effect", async () => {
  const notes: number[] = [];
  const server = await startServer({
    server: { handlers: { ...serverHandlers, events: { note: (_session, { n }) => void notes.push(n) } } },
  });
  const identity = createIdentity();
  const first = await rawLogin(server.origin, identity);
  // It does not read, so it does not know.
  first.socket.pause();
  const second = await rawLogin(server.origin, identity);
  first.send({ t: "note", n: 1 });
  first.send({ t: "note", n: 2 });
  second.send({ t: "note", n: 3 });
  await expect.poll(() => notes).toEqual([3]);
  first.socket.resume();
  expect(await first.closed).toBe("superseded");
  expect(notes).toEqual([3]);
});

it("what a superseded client was asked fails at once, though it may never read the goodbye", async () => {
  const server = await startServer();
  const identity = createIdentity();
  const first = await rawLogin(server.origin, identity);
  first.socket.pause();
  const asked = server.server.get(identity.publicKey)!.request("ask", { n: 1 });
  const refused = expect(asked).rejects.toMatchObject({ code: "disconnected" });
  await rawLogin(server.origin, identity);
  await refused;
  expect(server.closed).toEqual([]);
});

it("a superseded client does not fight for its place, even where it knows several addresses", async () => {
  const server = await startServer();
  const identity = createIdentity();
  const origins = [server.origin, server.origin, server.origin];
  const backoff = { firstMs: 1, mostMs: 1, longAfterMs: 1e9, longMs: 1e9 };
  const { client } = await connect(server, {
    identity,
    backoff,
    target: { origins, expect: { key: server.identity.publicKey } },
  });
  await rawLogin(server.origin, identity);
  expect(await failure(client)).toMatchObject({ code: "superseded" });
  // Its next attempt is within 1e9 ms now, not within 1: others log in many times before it.
  for (let i = 0; i < 20; i++) await rawLogin(server.origin);
  expect(server.attempts.filter(({ key }) => key === identity.publicKey)).toHaveLength(2);
});

import { verifyGrant } from "@isthmus/session";
import { expect, test } from "vitest";
import { startBroker } from "./support/broker.ts";
import { codeOf, newSubscription, service, startDaemon } from "./support/daemon.ts";
import { startIst } from "./support/ist.ts";

test("a service is negotiated: the provider accepts, the IST allocates, both are told", async () => {
  const server = await startBroker();
  const ist = await startIst(server, { invite: await server.inviteIst() });
  const alice = await startDaemon(server, {
    invite: await server.invite("alice"),
    declaration: { services: [service("web")] },
  });
  const bob = await startDaemon(server, { invite: await server.invite("bob") });

  const subscription = newSubscription();
  const reply = await bob.subscribe("web", "alice", { subscription, id: "request-1" });
  const told = await alice.told.next();

  expect(alice.asks.all).toEqual([
    {
      negotiation: "request-1",
      subscription,
      service: "web",
      subscriber: { user: "bob", key: bob.key, rotations: [] },
      handshake: "aGVsbG8",
      plain: false,
    },
  ]);
  expect(reply.peer).toEqual({ user: "alice", key: alice.key, rotations: [] });
  expect(reply.direct).toBeUndefined();
  expect(told).toMatchObject({ subscription, service: "web", user: "alice", peer: { user: "bob", key: bob.key } });
  const [mine, theirs] = [reply.allocation!, told.allocation!];
  expect(mine.allocation).toBe(theirs.allocation);
  expect(mine.side).not.toBe(theirs.side);
  expect(mine.ticket).not.toBe(theirs.ticket);
  expect(mine.ist).toMatchObject({ key: ist.key, addresses: ["192.0.2.1:443"] });
  expect(told.grant).toBe(reply.grant);
  expect(verifyGrant(reply.grant, server.identity.publicKey, Date.now() / 1000)).toMatchObject({
    sub: subscription,
    svc: "web",
    prv: { user: "alice", key: alice.key },
    sbr: { user: "bob", key: bob.key },
  });
});

test("an absent provider is away at once", async () => {
  const server = await startBroker();
  const alice = await startDaemon(server, {
    invite: await server.invite("alice"),
    declaration: { services: [service("web")] },
  });
  const bob = await startDaemon(server, { invite: await server.invite("bob") });
  await alice.client.stop();
  expect(await codeOf(bob.subscribe("web", "alice"))).toBe("provider-away");
});

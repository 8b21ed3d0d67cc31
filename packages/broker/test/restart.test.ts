import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { spawnIsb } from "./child/spawn.ts";
import { newSubscription, service, startDaemon } from "./support/daemon.ts";
import { startIst } from "./support/ist.ts";

test("an ISB that is killed and started again is as before: directory, subscriptions, allocations", async () => {
  const folder = await mkdtemp(join(tmpdir(), "isthmus-isb-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const first = await spawnIsb(folder, 0, ["ist", "alice", "bob"]);
  const ist = await startIst(first, { invite: first.invites[0]! });
  const alice = await startDaemon(first, {
    invite: first.invites[1]!,
    device: "desk",
    declaration: { services: [service("web"), service("ssh", { allow: { users: ["bob"] }, description: "shell" })] },
  });
  const bob = await startDaemon(first, { invite: first.invites[2]!, declaration: { services: [service("own")] } });
  const subscription = newSubscription();
  const { grant, allocation } = await bob.subscribe("ssh", "alice", { subscription });
  bob.declaration.subscriptions.push({ subscription, grant });
  await alice.told.next();
  for (const daemon of [alice, bob]) await daemon.logins.next();
  const { entries } = await bob.client.request("list", {});
  expect(entries).toHaveLength(3);

  await first.kill();
  for (const daemon of [alice, bob]) await daemon.downs.next();
  await spawnIsb(folder, first.port);
  for (const daemon of [alice, bob]) await daemon.logins.next();
  await ist.client.whenUp(AbortSignal.timeout(10_000));

  expect(bob.declared).toEqual({ services: [{ name: "own" }], subscriptions: [{ subscription }] });
  expect((await bob.client.request("list", {})).entries).toEqual(entries);
  // The provider was asked nothing and told nothing: the grant says it all.
  expect(alice.asks.all).toHaveLength(1);
  expect(alice.told.all).toHaveLength(1);
  expect(bob.renegotiate.all).toEqual([]);
  // The subscription lives: frames pass, the IST gives the same allocation, the grant can be renewed.
  bob.client.binary(Buffer.concat([Buffer.from(alice.key, "base64url"), Buffer.from("sealed")]));
  expect((await alice.frames.next()).subarray(32).toString()).toBe("sealed");
  const again = await bob.client.request("allocate", { subscription });
  expect(again.allocation).toEqual(allocation);
  await alice.told.next();
  await bob.client.request("renew", { subscription });
  expect((await alice.told.next()).allocation!.allocation).toBe(allocation!.allocation);
  await bob.client.request("unsubscribe", { subscription });
  expect(await alice.ended.next()).toEqual({ subscription, code: "closed" });
  await ist.released.next();
  expect(ist.living.size).toBe(0);
}, 60_000);

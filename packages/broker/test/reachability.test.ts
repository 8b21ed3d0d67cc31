import { describe, expect, test } from "vitest";
import { startBehindProxy } from "./support/behind-proxy.ts";
import { startBroker, type TestBroker } from "./support/broker.ts";
import { newSubscription, service, startDaemon, type TestDaemon } from "./support/daemon.ts";
import { startIst } from "./support/ist.ts";
import { closedPort, openLegPort } from "./support/leg-port.ts";

/** Makes a daemon reachable, and waits until the broker knows. */
async function open(daemon: TestDaemon) {
  const leg = await openLegPort((nonce) => daemon.client.event("probed", { nonce }));
  await daemon.redeclare({ legPort: leg.port });
  return { leg, report: await daemon.reachability.next() };
}

async function network(options: Parameters<typeof startBroker>[0] = {}) {
  const server = await startBroker(options);
  const ist = await startIst(server, { invite: await server.inviteIst() });
  const declaration = { services: [service("web")] };
  const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
  const bob = await startDaemon(server, { invite: await server.invite("bob") });
  return { server, ist, alice, bob };
}

function probes(server: TestBroker, outcome: string): Promise<number> {
  return server.metrics.value("probes_total", { outcome });
}

describe("a leg port", () => {
  test("counts as reachable once the broker's nonce came back", async () => {
    const { server, alice } = await network();
    const { leg, report } = await open(alice);
    expect(report).toEqual({ reachable: true, address: `127.0.0.1:${leg.port}` });
    // The same port is not tried again, as long as the session lives.
    await alice.redeclare({});
    expect(await probes(server, "reachable")).toBe(1);
    expect(leg.dials).toBe(1);
    const second = await open(alice);
    expect(second.report.address).toBe(`127.0.0.1:${second.leg.port}`);
  });

  test("is not reachable where nobody listens, or somebody else does", async () => {
    const { server, alice, bob } = await network();
    await alice.redeclare({ legPort: await closedPort() });
    expect(await alice.reachability.next()).toMatchObject({ reachable: false, code: "no-path" });
    // The nonce is worth nothing on another session than the one that declared the port.
    const stolen = await openLegPort((nonce) => bob.client.event("probed", { nonce }));
    await alice.redeclare({ legPort: stolen.port });
    expect(await alice.reachability.next()).toEqual({ reachable: false, code: "timeout" });
    expect(await probes(server, "timeout")).toBe(1);
  });

  test("below 1024 is left alone, but for 443", async () => {
    const { alice } = await network();
    await alice.redeclare({ legPort: 25 });
    expect(await alice.reachability.next()).toEqual({ reachable: false, code: "bad-request" });
    await alice.redeclare({ legPort: 443 });
    expect(await alice.reachability.next()).toEqual({ reachable: false, code: "no-path" });
  });

  test("is not dialled more often than it may be", async () => {
    const rates = { probes_per_device: { per_second: 0.001, burst: 1 } };
    const { alice } = await network({ settings: { rates } });
    await open(alice);
    const { leg, report } = await open(alice);
    expect(report).toEqual({ reachable: false, code: "rate-limited" });
    expect(leg.dials).toBe(0);
  });

  test("is not dialled where sessions come through a proxy: the address would be the proxy's", async () => {
    const { alice } = await startBehindProxy();
    const { leg, report } = await open(alice);
    expect(report).toEqual({ reachable: false, code: "no-path" });
    expect(leg.dials).toBe(0);
  });
});

describe("a direct row", () => {
  test("lets the subscriber dial a reachable provider, and takes no allocation", async () => {
    const { ist, alice, bob } = await network();
    const { leg } = await open(alice);
    const { direct, allocation } = await bob.subscribe("web", "alice");
    const expected = { dialler: "subscriber", addresses: [`127.0.0.1:${leg.port}`] };
    expect(direct).toEqual(expected);
    expect(allocation).toBeUndefined();
    expect(await alice.told.next()).toMatchObject({ direct: expected });
    expect(ist.asked.all).toEqual([]);
  });

  test("lets the provider dial a reachable subscriber", async () => {
    const { ist, alice, bob } = await network();
    const { leg } = await open(bob);
    const { direct, allocation } = await bob.subscribe("web", "alice");
    expect(direct).toEqual({ dialler: "provider", addresses: [`127.0.0.1:${leg.port}`] });
    expect(allocation).toBeUndefined();
    expect((await alice.told.next()).direct).toEqual(direct);
    expect(ist.asked.all).toEqual([]);
  });

  test("prefers the provider's port where both are reachable", async () => {
    const { alice, bob } = await network();
    await open(bob);
    const { leg } = await open(alice);
    const { direct } = await bob.subscribe("web", "alice");
    expect(direct).toEqual({ dialler: "subscriber", addresses: [`127.0.0.1:${leg.port}`] });
  });

  test("needs no IST at all, until a direct dial fails", async () => {
    const { server, ist, alice, bob } = await network();
    await open(alice);
    const subscription = newSubscription();
    const first = await bob.subscribe("web", "alice", { subscription });
    await alice.told.next();
    const { allocation } = await bob.client.request("allocate", { subscription });
    const told = await alice.told.next();
    expect(told.allocation!.allocation).toBe(allocation.allocation);
    expect(told.direct).toEqual(first.direct);
    expect(ist.living.size).toBe(1);
    // The next subscription between the two is told of the allocation as well.
    const next = await bob.subscribe("web", "alice");
    expect(next.allocation!.allocation).toBe(allocation.allocation);
    expect(ist.asked.all).toHaveLength(1);
    expect(server.broker.operations.subscriptions("", 10).items.map((item) => item.direct)).toEqual([true, true]);
  });
});

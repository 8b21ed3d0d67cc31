import { PortmapError } from "@isthmus/portmap";
import { afterEach, describe, expect, it, vi } from "vitest";
import { bindOf, newFolder, startBinding } from "./binding-at.ts";
import { MemoryGateway, OTHER, OWN } from "./memory-gateway.ts";

const ownAddresses = () => [OWN];
/** Where not the time is what is tested. */
const PATIENT_MS = 20_000;

afterEach(() => {
  vi.useRealTimers();
});

async function start(gateway: MemoryGateway, options: Partial<Parameters<typeof startBinding>[1]> = {}) {
  return startBinding(newFolder(), { gateway, ownAddresses, answerMs: PATIENT_MS, ...options });
}

describe("a bind", () => {
  it("is mapped, until its socket closes", async () => {
    const gateway = new MemoryGateway();
    const binding = await start(gateway);
    const request = bindOf(10_000);
    expect(await binding.bind(request)).toEqual({ answer: "succeeded" });
    expect(gateway.ports(OWN)).toEqual(["tcp 10000"]);
    expect(gateway.mappings.get("tcp 10000")!.description).toMatch(/^natbinder test \[[0-9a-f]{8}\]$/);
    expect(binding.entries).toMatchObject([{ port: 10_000, state: "mapped", owners: [{ program: "test" }] }]);
    binding.close("", request.socket);
    await binding.idle();
    expect(gateway.ports(OWN)).toEqual([]);
    expect(binding.entries).toEqual([]);
  });

  it("of another host's port fails, leaves nothing, and the next port on the same socket succeeds", async () => {
    const gateway = new MemoryGateway();
    gateway.hold("tcp", 10_001);
    const binding = await start(gateway);
    const request = bindOf(10_001);
    expect(await binding.bind(request)).toEqual({ answer: "failed", holder: OTHER });
    expect(await binding.bind({ ...request, port: 10_002 })).toEqual({ answer: "succeeded" });
    await binding.idle();
    expect(binding.entries.map(({ port }) => port)).toEqual([10_002]);
    expect(gateway.ports(OTHER)).toEqual(["tcp 10001"]);
    binding.close("", request.socket);
    await binding.idle();
    expect(gateway.ports(OWN)).toEqual([]);
  });

  it("at another port by the same socket leaves the first one", async () => {
    const gateway = new MemoryGateway();
    const binding = await start(gateway);
    const request = bindOf(10_000);
    await binding.bind(request);
    await binding.bind({ ...request, port: 10_001 });
    await binding.idle();
    expect(gateway.ports(OWN)).toEqual(["tcp 10001"]);
  });

  it.each(["denied", "full", "failed", "unsupported", "malformed", "other-port"] as const)(
    "that the gateway answers with %s is ignored, kept, and tried again",
    async (code) => {
      vi.useFakeTimers();
      const gateway = new MemoryGateway();
      const binding = await start(gateway);
      gateway.failures.push({ error: new PortmapError(code, undefined, { gatewayCode: 1 }), isAfter: false });
      expect(await binding.bind(bindOf(10_000))).toEqual({ answer: "ignored", reason: code });
      expect(binding.entries).toMatchObject([{ state: "waiting", reason: code }]);
      await vi.advanceTimersByTimeAsync(6000);
      expect(binding.entries).toMatchObject([{ state: "mapped" }]);
    },
  );

  it("that is none of ours asks nobody", async () => {
    const gateway = new MemoryGateway();
    const binding = await start(gateway);
    const calls = gateway.calls;
    expect(await binding.bind(bindOf(80))).toEqual({ answer: "ignored", reason: "privileged-port" });
    expect(await binding.bind(bindOf(8080, { address: "127.0.0.1" }))).toMatchObject({ reason: "specific-address" });
    expect(gateway.calls).toBe(calls);
    expect(binding.entries).toEqual([]);
  });

  it("waits half a second for a gateway that hangs, and holds up no other", async () => {
    const gateway = new MemoryGateway();
    const binding = await start(gateway, { answerMs: 500 });
    const { promise, resolve } = Promise.withResolvers<void>();
    gateway.gate = () => promise;
    const startedMs = performance.now();
    const slow = binding.bind(bindOf(10_000));
    gateway.gate = async () => undefined;
    expect(await binding.bind(bindOf(10_001))).toEqual({ answer: "succeeded" });
    expect(await slow).toEqual({ answer: "ignored", reason: "no-answer" });
    expect(performance.now() - startedMs).toBeGreaterThan(480);
    resolve();
    await binding.idle();
    expect(gateway.ports(OWN).sort()).toEqual(["tcp 10000", "tcp 10001"]);
  });

  it("whose socket is gone before the gateway answers leaves nothing behind", async () => {
    const gateway = new MemoryGateway();
    const binding = await start(gateway, { answerMs: 10 });
    const { promise, resolve } = Promise.withResolvers<void>();
    gateway.gate = () => promise;
    const request = bindOf(10_000);
    expect(await binding.bind(request)).toEqual({ answer: "ignored", reason: "no-answer" });
    binding.close("", request.socket);
    resolve();
    await binding.idle();
    expect(gateway.ports(OWN)).toEqual([]);
    expect(binding.entries).toEqual([]);
  });

  it("without a gateway is ignored at once, and mapped when one is found", async () => {
    const gateway = new MemoryGateway();
    const { gateway: there } = gateway;
    gateway.gateway = undefined;
    const binding = await start(gateway);
    expect(await binding.bind(bindOf(10_000))).toEqual({ answer: "ignored", reason: "no-gateway" });
    gateway.gateway = there;
    binding.gatewayEvent({ event: "found", kind: "upnp", address: "192.168.1.1" });
    await binding.idle();
    expect(gateway.ports(OWN)).toEqual(["tcp 10000"]);
  });

  it("beyond a user's share is ignored; another user has one of his own", async () => {
    const gateway = new MemoryGateway();
    const binding = await start(gateway, { mostSocketsPerUser: 2 });
    const [first] = [bindOf(10_000)];
    await binding.bind(first!);
    await binding.bind(bindOf(10_001));
    expect(await binding.bind(bindOf(10_002))).toEqual({ answer: "ignored", reason: "quota" });
    expect(await binding.bind(bindOf(10_001))).toEqual({ answer: "ignored", reason: "quota" });
    expect(await binding.bind(bindOf(10_003, { uid: 1001 }))).toEqual({ answer: "succeeded" });
    binding.close("", first!.socket);
    await binding.idle();
    expect(await binding.bind(bindOf(10_002))).toEqual({ answer: "succeeded" });
  });
});

describe("several sockets on a port", () => {
  it("are one mapping, which goes with the last", async () => {
    const gateway = new MemoryGateway();
    const binding = await start(gateway);
    const requests = [bindOf(10_000), bindOf(10_000), bindOf(10_000, { family: "ipv6", address: "::" })];
    await binding.bind(requests[0]!);
    const calls = gateway.calls;
    for (const request of requests.slice(1)) expect(await binding.bind(request)).toEqual({ answer: "succeeded" });
    expect(gateway.calls).toBe(calls);
    for (const { socket } of requests.slice(0, 2)) binding.close("", socket);
    await binding.idle();
    expect(gateway.ports(OWN)).toEqual(["tcp 10000"]);
    binding.close("", requests[2]!.socket);
    binding.close("", requests[2]!.socket);
    await binding.idle();
    expect(gateway.ports(OWN)).toEqual([]);
  });

  it("are apart by protocol", async () => {
    const gateway = new MemoryGateway();
    const binding = await start(gateway);
    const [tcp, udp] = [bindOf(10_000), bindOf(10_000, { protocol: "udp" })];
    await Promise.all([binding.bind(tcp), binding.bind(udp)]);
    binding.close("", tcp.socket);
    await binding.idle();
    expect(gateway.ports(OWN)).toEqual(["udp 10000"]);
  });
});

describe("a gateway that forgot", () => {
  it("has everything again at once when it shows that it started anew", async () => {
    const gateway = new MemoryGateway();
    const binding = await start(gateway);
    await Promise.all(Array.from({ length: 20 }, (_, index) => binding.bind(bindOf(10_000 + index))));
    gateway.mappings.clear();
    binding.gatewayEvent({ event: "restarted", why: "bootid" });
    await binding.idle();
    expect(gateway.ports(OWN)).toHaveLength(20);
  });

  it("has everything again after a period when it shows nothing", async () => {
    vi.useFakeTimers();
    const gateway = new MemoryGateway();
    const binding = await start(gateway);
    await binding.bind(bindOf(10_000));
    gateway.mappings.clear();
    gateway.hold("tcp", 10_001);
    await vi.advanceTimersByTimeAsync(61_000);
    expect(gateway.ports(OWN)).toEqual(["tcp 10000"]);
    expect(binding.held).toEqual([{ protocol: "tcp", port: 10_001, holder: OTHER }]);
  });

  it("and gave the port to another host: that is said, and it is never touched", async () => {
    vi.useFakeTimers();
    const gateway = new MemoryGateway();
    const binding = await start(gateway);
    const request = bindOf(10_000);
    await binding.bind(request);
    gateway.hold("tcp", 10_000);
    await vi.advanceTimersByTimeAsync(61_000);
    expect(binding.entries).toMatchObject([{ state: "held", reason: "conflict" }]);
    gateway.mappings.clear();
    await vi.advanceTimersByTimeAsync(61_000);
    expect(binding.entries).toMatchObject([{ state: "mapped" }]);
    gateway.hold("tcp", 10_000);
    binding.close("", request.socket);
    await vi.advanceTimersByTimeAsync(1000);
    expect(gateway.ports(OTHER)).toEqual(["tcp 10000"]);
    expect(binding.entries).toEqual([]);
  });
});

describe("a program that could not wait for the answer", () => {
  it("stays wanted though another host has the port, and gets it when that one is gone", async () => {
    vi.useFakeTimers();
    const gateway = new MemoryGateway();
    gateway.hold("tcp", 10_000);
    const binding = await start(gateway);
    const request = { ...bindOf(10_000), isSettled: true };
    expect(await binding.bind(request)).toEqual({ answer: "ignored", reason: "conflict" });
    expect(binding.entries).toMatchObject([{ state: "held", owners: [{ socket: request.socket }] }]);
    gateway.mappings.clear();
    await vi.advanceTimersByTimeAsync(61_000);
    expect(gateway.ports(OWN)).toEqual(["tcp 10000"]);
  });

  it("and is told of again has the port as long as before", async () => {
    vi.useFakeTimers({ now: 1_000_000 });
    const binding = await start(new MemoryGateway());
    const request = { ...bindOf(10_000), isSettled: true };
    await binding.bind(request);
    await vi.advanceTimersByTimeAsync(5000);
    expect(await binding.bind(request)).toEqual({ answer: "succeeded" });
    expect(binding.entries).toMatchObject([{ owners: [{ since: 1000 }] }]);
  });
});

it("says when the ports that are another host's change: by an attempt, by the list, and when there is no gateway", async () => {
  const gateway = new MemoryGateway();
  const seen: number[][] = [];
  const binding = await start(gateway, {
    onHeldChange: () => seen.push(binding.held.map(({ port }) => port)),
  });
  gateway.hold("tcp", 10_000);
  await binding.bind(bindOf(10_000));
  await binding.bind(bindOf(10_000));
  gateway.hold("udp", 10_001);
  await binding.reconcile();
  await binding.reconcile();
  gateway.mappings.delete("tcp 10000");
  await binding.bind(bindOf(10_000));
  binding.gatewayEvent({ event: "gone", why: "silent" });
  expect(seen).toEqual([[10_000], [10_000, 10_001], [10_001], []]);
});

it("a lease is renewed at its half, as long as the socket lives", async () => {
  vi.useFakeTimers();
  const gateway = new MemoryGateway();
  const binding = await start(gateway, { leaseSeconds: 100, reconcileMs: 1_000_000 });
  const request = bindOf(10_000);
  await binding.bind(request);
  const calls = gateway.calls;
  await vi.advanceTimersByTimeAsync(49_000);
  expect(gateway.calls).toBe(calls);
  await vi.advanceTimersByTimeAsync(2000);
  expect(gateway.calls).toBe(calls + 1);
  expect(binding.entries[0]!.leaseLeftSeconds).toBeGreaterThan(90);
  await vi.advanceTimersByTimeAsync(50_000);
  expect(gateway.calls).toBe(calls + 2);
  binding.close("", request.socket);
  await vi.advanceTimersByTimeAsync(1000);
  expect(gateway.calls).toBe(calls + 3);
  await vi.advanceTimersByTimeAsync(500_000);
  expect(gateway.calls).toBe(calls + 3);
});

describe("a gateway that cannot list", () => {
  it("is asked for everything again in each period", async () => {
    vi.useFakeTimers();
    const gateway = new MemoryGateway();
    gateway.gateway = { kind: "pcp", address: "192.168.1.1", capabilities: { lookUp: false, list: false } };
    const binding = await start(gateway);
    await binding.bind(bindOf(10_000));
    gateway.mappings.clear();
    await vi.advanceTimersByTimeAsync(61_000);
    expect(gateway.ports(OWN)).toEqual(["tcp 10000"]);
  });
});

describe("a start after the process was killed", () => {
  it("keeps what is still open, removes what is not, and what nobody knows of", async () => {
    const gateway = new MemoryGateway();
    const folder = newFolder();
    const before = await startBinding(folder, { gateway, ownAddresses });
    const [living, dead] = [bindOf(10_000), bindOf(10_001)];
    await before.bind(living);
    await before.bind(dead);
    await before.stop();
    const tag = /\[(.*)\]$/.exec(gateway.mappings.get("tcp 10000")!.description)![1];
    // Made right before the kill: not on disk.
    await gateway.map({
      protocol: "udp",
      internalPort: 10_002,
      lifetimeSeconds: 600,
      description: `natbinder x [${tag}]`,
    });
    // This host's, but not of this daemon.
    await gateway.map({ protocol: "udp", internalPort: 10_003, lifetimeSeconds: 600, description: "Transmission" });

    const after = await startBinding(folder, {
      gateway,
      ownAddresses,
      whatIsOpen: async () => (_, owner) => owner.socket === living.socket,
    });
    await after.idle();
    expect(gateway.ports(OWN).sort()).toEqual(["tcp 10000", "udp 10003"]);
    expect(after.entries).toMatchObject([{ port: 10_000, state: "mapped", owners: [{ socket: living.socket }] }]);
    after.close("", living.socket);
    await after.idle();
    expect(gateway.ports(OWN)).toEqual(["udp 10003"]);
  });

  it("removes later what the gateway did not hear of", async () => {
    vi.useFakeTimers();
    const gateway = new MemoryGateway();
    const folder = newFolder();
    const before = await startBinding(folder, { gateway, ownAddresses });
    const request = bindOf(10_000);
    await before.bind(request);
    gateway.failures.push({ error: new PortmapError("timeout"), isAfter: false });
    before.close("", request.socket);
    await before.stop();
    expect(gateway.ports(OWN)).toEqual(["tcp 10000"]);
    const after = await startBinding(folder, { gateway, ownAddresses });
    await vi.advanceTimersByTimeAsync(1000);
    expect(gateway.ports(OWN)).toEqual([]);
    expect(after.entries).toEqual([]);
  });
});

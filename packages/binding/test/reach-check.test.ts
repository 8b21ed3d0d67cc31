import { IsthmusError, type ProbeReport, type ProbeRequest } from "@isthmus/protocol";
import { createLogger } from "@isthmus/service";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { PortEntry } from "../src/binding.ts";
import { ReachCheck } from "../src/reach-check.ts";

const ADDRESS = "11.1.0.1";
const MINUTE_MS = 60_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function entry(port: number, change: Partial<PortEntry> = {}): PortEntry {
  const owner = { socket: `${port}`, pid: 1, uid: 1000, program: "test", since: 0 };
  return {
    namespace: "",
    protocol: "tcp",
    port,
    owners: [owner],
    state: "mapped",
    leaseLeftSeconds: 3600,
    reason: undefined,
    ...change,
  };
}

/** A check with an ISB that answers as the test says, and all that was asked of it. */
class World {
  entries: PortEntry[] = [];
  address: string | undefined = ADDRESS;
  answer: (request: ProbeRequest, signal: AbortSignal) => Promise<ProbeReport> = async () => ({
    address: ADDRESS,
    outcome: "reachable",
  });
  readonly asked: string[] = [];
  readonly looks: string[] = [];
  readonly log: { level: string; msg: string }[] = [];
  addressCalls = 0;
  readonly check: ReachCheck;

  constructor({ isOff = false } = {}) {
    this.check = new ReachCheck({
      entries: () => this.entries,
      externalAddress: async () => {
        this.addressCalls++;
        if (this.address === undefined) throw new Error("it does not say");
        return this.address;
      },
      ask: isOff
        ? undefined
        : (request, signal) => {
            this.asked.push(`${request.proto} ${request.port}`);
            return this.answer(request, signal);
          },
      onLook: (reason) => this.looks.push(reason),
      logger: createLogger({
        name: "test",
        level: "debug",
        write: (line) => this.log.push(JSON.parse(line) as (typeof this.log)[number]),
      }),
    });
  }

  /** Ports are mapped now. */
  map(...ports: PortEntry[]): void {
    this.entries.push(...ports);
    this.check.changed();
  }

  said(port: number, protocol: "tcp" | "udp" = "tcp"): string {
    const { state, reason } = this.check.of({ namespace: "", protocol, port });
    return `${state} (${reason})`;
  }
}

async function pass(ms: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
}

it("looks at a port a moment after it was mapped, and again half an hour later", async () => {
  const world = new World();
  world.map(entry(10_000));
  await pass(1900);
  expect([world.asked, world.said(10_000)]).toEqual([[], "unknown (not-yet)"]);
  await pass(200);
  expect([world.asked, world.said(10_000)]).toEqual([["tcp 10000"], "yes (answered)"]);
  const { since } = world.check.of(entry(10_000));
  await pass(29 * MINUTE_MS);
  expect(world.asked).toHaveLength(1);
  await pass(2 * MINUTE_MS);
  expect(world.asked).toHaveLength(2);
  expect(world.check.of(entry(10_000)).since).toEqual(since);
  expect(world.log.filter(({ msg }) => msg.includes("came through"))).toHaveLength(1);
  expect(world.looks).toEqual(["answered", "answered"]);
});

it("asks nothing about ports that are not mapped, or not any more", async () => {
  const world = new World();
  world.map(entry(10_000, { state: "waiting" }), entry(10_001, { state: "held" }), entry(10_002, { state: "leaving" }));
  await pass(MINUTE_MS);
  world.map(entry(10_003));
  world.entries = [];
  await pass(100 * MINUTE_MS);
  expect(world.asked).toEqual([]);
});

it("a program that listens late is found to, with less and less haste", async () => {
  const world = new World();
  world.answer = async () => ({ address: ADDRESS, outcome: "refused" });
  world.map(entry(10_000));
  await pass(2100);
  expect(world.said(10_000)).toBe("no (refused)");
  // 15 s, 30 s, 60 s and so on.
  await pass(108_000);
  expect(world.asked).toHaveLength(4);
  world.answer = async () => ({ address: ADDRESS, outcome: "reachable" });
  await pass(2 * MINUTE_MS + 1000);
  expect(world.said(10_000)).toBe("yes (answered)");
});

it("another program at the port is looked at anew", async () => {
  const world = new World();
  world.map(entry(10_000));
  await pass(2100);
  const [owner] = entry(10_000).owners;
  world.entries = [entry(10_000, { owners: [{ ...owner!, socket: "another" }] })];
  world.check.changed();
  world.answer = async () => ({ address: ADDRESS, outcome: "timeout" });
  await pass(2100);
  expect(world.said(10_000)).toBe("no (no-answer)");
});

it("asks about many ports at a pace that leaves the user some, one at a time", async () => {
  const world = new World();
  let [running, most] = [0, 0];
  world.answer = async () => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 100));
    running--;
    return { address: ADDRESS, outcome: "reachable" };
  };
  world.map(...Array.from({ length: 20 }, (_, index) => entry(10_000 + index)));
  await pass(5000);
  expect(world.asked).toHaveLength(5);
  await pass(MINUTE_MS);
  expect(world.asked.length).toBeGreaterThanOrEqual(10);
  expect(world.asked.length).toBeLessThanOrEqual(12);
  await pass(2 * MINUTE_MS);
  expect(new Set(world.asked).size).toBe(20);
  expect(world.asked).toHaveLength(20);
  expect(most).toBe(1);
  expect(world.addressCalls).toBe(1);
});

it("a storm of changes brings no more questions than a change does", async () => {
  const world = new World();
  world.map(entry(10_000));
  for (let round = 0; round < 1000; round++) {
    world.check.changed();
    await pass(5);
  }
  expect(world.asked).toEqual(["tcp 10000"]);
});

it("what is so for all ports is asked once and warned of once, and is known of each", async () => {
  const world = new World();
  world.address = "100.64.0.7";
  world.answer = async () => ({ address: ADDRESS, outcome: "other-address" });
  world.map(...Array.from({ length: 50 }, (_, index) => entry(10_000 + index)), entry(10_000, { protocol: "udp" }));
  await pass(5000);
  expect(world.asked).toHaveLength(1);
  expect(world.said(10_049)).toBe("no (another-nat)");
  expect(world.said(10_000, "udp")).toBe("no (another-nat)");
  await pass(60 * MINUTE_MS);
  expect(world.asked.length).toBeLessThanOrEqual(8);
  const warnings = world.log.filter(({ msg }) => msg.includes("CGNAT or double NAT"));
  expect(warnings).toMatchObject([{ level: "warn" }]);
});

it("notices within seconds that there is somebody to ask now, and says once that there was not", async () => {
  const world = new World();
  world.answer = () => Promise.reject(new IsthmusError("disconnected", "no daemon answers at /run/x"));
  world.map(entry(10_000), entry(10_001));
  await pass(MINUTE_MS);
  expect(world.said(10_001)).toBe("unknown (no-daemon)");
  expect(world.log.filter(({ msg }) => msg.includes("/run/x"))).toMatchObject([{ level: "info" }]);
  world.answer = async () => ({ address: ADDRESS, outcome: "reachable" });
  await pass(6000);
  expect([world.said(10_000), world.said(10_001)]).toEqual(["yes (answered)", "yes (answered)"]);
});

it("an ISB that was asked too often is left alone for a minute, and what was known stays", async () => {
  const world = new World();
  world.map(entry(10_000));
  await pass(2100);
  world.answer = () => Promise.reject(new IsthmusError("rate-limited"));
  world.map(entry(10_001));
  await pass(5000);
  expect([world.said(10_000), world.said(10_001)]).toEqual(["yes (answered)", "unknown (rate-limited)"]);
  await pass(30 * MINUTE_MS);
  expect(world.said(10_000)).toBe("yes (answered)");
  expect(world.asked.length).toBeLessThan(40);
});

it("another gateway, or another address of it, voids what was found, also what is just being asked", async () => {
  const world = new World();
  world.map(entry(10_000), entry(10_001));
  await pass(2100);
  expect(world.asked).toHaveLength(2);
  const { promise, resolve } = Promise.withResolvers<ProbeReport>();
  world.answer = () => promise;
  world.check.doubt();
  expect(world.said(10_000)).toBe("unknown (not-yet)");
  await pass(2100);
  world.check.doubt();
  world.answer = async () => ({ address: ADDRESS, outcome: "timeout" });
  resolve({ address: ADDRESS, outcome: "other-address" });
  await pass(2100);
  expect([world.said(10_000), world.said(10_001)]).toEqual(["no (no-answer)", "no (no-answer)"]);
});

it("a gateway that does not say its address is asked again in a minute", async () => {
  const world = new World();
  world.address = undefined;
  world.map(entry(10_000));
  await pass(5000);
  expect([world.asked, world.said(10_000)]).toEqual([[], "unknown (no-address)"]);
  world.address = ADDRESS;
  await pass(MINUTE_MS);
  expect(world.said(10_000)).toBe("yes (answered)");
});

it("asks nobody where that is switched off", async () => {
  const world = new World({ isOff: true });
  world.map(entry(10_000));
  await pass(60 * MINUTE_MS);
  expect([world.asked, world.said(10_000), world.addressCalls]).toEqual([[], "unknown (off)", 0]);
});

it("stops at once, whatever is being asked", async () => {
  const world = new World();
  world.answer = (_request, signal) =>
    new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("given up"))));
  world.map(entry(10_000));
  await pass(2100);
  expect(world.asked).toHaveLength(1);
  await world.check.stop();
  world.check.changed();
  world.check.doubt();
  await pass(60 * MINUTE_MS);
  expect([world.asked.length, world.looks, world.log]).toEqual([1, [], []]);
  expect(vi.getTimerCount()).toBe(0);
});

import { expect, it, onTestFinished, vi } from "vitest";
import { CallLimit } from "../src/upnp/call-limit.ts";

/** Calls that end when they are told to. */
class Calls {
  running = 0;
  most = 0;
  readonly order: number[] = [];
  readonly #ends: (() => void)[] = [];

  start(limit: CallLimit, count: number): Promise<unknown> {
    return Promise.all(
      Array.from({ length: count }, (_, index) =>
        limit.run(async () => {
          this.order.push(index);
          this.running++;
          this.most = Math.max(this.most, this.running);
          await new Promise<void>((resolve) => this.#ends.push(resolve));
          this.running--;
        }),
      ),
    );
  }

  async end(count: number): Promise<void> {
    for (const end of this.#ends.splice(0, count)) end();
    await settle();
  }
}

async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

it("starts few, and the others in order", async () => {
  const [limit, calls] = [new CallLimit(), new Calls()];
  const all = calls.start(limit, 10);
  await settle();
  expect(calls.running).toBe(4);
  while (calls.order.length < 10 || calls.running > 0) await calls.end(1);
  await all;
  expect(calls.most).toBe(4);
  expect(calls.order).toEqual([...calls.order].sort((a, b) => a - b));
});

it("takes more while the gateway takes them and calls wait, up to 64", async () => {
  const [limit, calls] = [new CallLimit(), new Calls()];
  limit.connected(false, performance.now());
  expect(limit.limit).toBe(4);
  const all = calls.start(limit, 200);
  for (let turn = 0; turn < 100; turn++) limit.connected(false, performance.now());
  await settle();
  expect([limit.limit, calls.running]).toEqual([64, 64]);
  while (calls.running > 0) await calls.end(64);
  await all;
});

it("halves where a connection was turned away, once for all of a time, and goes beyond that again after a minute", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const [limit, calls] = [new CallLimit(), new Calls()];
  const all = calls.start(limit, 60);
  for (let turn = 0; turn < 8; turn++) limit.connected(false, performance.now());
  expect(limit.limit).toBe(12);
  const startedMs = performance.now();
  vi.advanceTimersByTime(1000);
  for (let turn = 0; turn < 5; turn++) limit.connected(true, startedMs);
  expect(limit.limit).toBe(6);
  await settle();
  expect(calls.running).toBe(12);
  await calls.end(12);
  expect(calls.running).toBe(6);
  for (let turn = 0; turn < 50; turn++) limit.connected(false, performance.now());
  await settle();
  expect([limit.limit, calls.running]).toEqual([6, 6]);
  vi.advanceTimersByTime(1000);
  limit.connected(true, performance.now());
  expect(limit.limit).toBe(3);
  vi.advanceTimersByTime(61_000);
  for (let turn = 0; turn < 2; turn++) limit.connected(false, performance.now());
  expect(limit.limit).toBe(5);
  while (calls.running > 0) await calls.end(6);
  await all;
});

it("a call that fails leaves its place to the next", async () => {
  const limit = new CallLimit();
  const all = await Promise.allSettled(
    Array.from({ length: 20 }, (_, index) => limit.run(() => Promise.reject(new Error(String(index))))),
  );
  expect(all.map((one) => one.status === "rejected" && (one.reason as Error).message)).toEqual(
    Array.from({ length: 20 }, (_, index) => String(index)),
  );
});

/** What is let in after four that are under way, when they wait in this order, for that long. */
async function orderOf(names: readonly string[], waitMs: number): Promise<string[]> {
  const [limit, order] = [new CallLimit(), [] as string[]];
  const { promise, resolve } = Promise.withResolvers<void>();
  vi.useFakeTimers({ toFake: ["performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const call = (name: string) =>
    limit.run(
      async () => {
        order.push(name);
        await promise;
      },
      { background: name.startsWith("background") },
    );
  const all = ["first", "first", "first", "first", ...names].map(call);
  vi.advanceTimersByTime(waitMs);
  resolve();
  await Promise.all(all);
  return order.slice(4);
}

it("lets calls of the background wait until no other does", async () => {
  expect(await orderOf(["background", "urgent", "urgent too"], 900)).toEqual(["urgent", "urgent too", "background"]);
});

it("lets them take turns with the others when they have waited long", async () => {
  const names = ["background 1", "background 2", "background 3", "urgent 1", "urgent 2"];
  const turns = ["urgent 1", "background 1", "urgent 2", "background 2", "background 3"];
  expect(await orderOf(names, 1100)).toEqual(turns);
});

it.each(["signal", "withdraw"] as const)("a call whose %s aborts while it waits is never made", async (name) => {
  const [limit, calls, controller] = [new CallLimit(), new Calls(), new AbortController()];
  const all = calls.start(limit, 4);
  let isMade = false;
  const waiting = limit.run(
    async () => {
      isMade = true;
    },
    { [name]: controller.signal },
  );
  controller.abort();
  await expect(waiting).rejects.toMatchObject({ code: "aborted", untouched: true });
  await calls.end(4);
  await all;
  expect(isMade).toBe(false);
  await expect(limit.run(async () => "made")).resolves.toBe("made");
});

import { expect, it } from "vitest";
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
  limit.connected(false);
  expect(limit.limit).toBe(4);
  const all = calls.start(limit, 200);
  for (let turn = 0; turn < 100; turn++) limit.connected(false);
  await settle();
  expect([limit.limit, calls.running]).toEqual([64, 64]);
  while (calls.running > 0) await calls.end(64);
  await all;
});

it("halves where a connection was turned away, and never goes beyond that again", async () => {
  const [limit, calls] = [new CallLimit(), new Calls()];
  const all = calls.start(limit, 60);
  for (let turn = 0; turn < 8; turn++) limit.connected(false);
  expect(limit.limit).toBe(12);
  limit.connected(true);
  expect(limit.limit).toBe(6);
  await settle();
  expect(calls.running).toBe(12);
  await calls.end(12);
  expect(calls.running).toBe(6);
  for (let turn = 0; turn < 50; turn++) limit.connected(false);
  await settle();
  expect([limit.limit, calls.running]).toEqual([6, 6]);
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

it("lets calls of the background wait until no other does", async () => {
  const [limit, order] = [new CallLimit(), [] as string[]];
  const { promise, resolve } = Promise.withResolvers<void>();
  const call = (name: string, background: boolean) =>
    limit.run(
      async () => {
        order.push(name);
        await promise;
      },
      { background },
    );
  const all = [1, 2, 3, 4].map((number) => call(`first ${number}`, true));
  all.push(call("background", true), call("urgent", false), call("urgent too", false));
  resolve();
  await Promise.all(all);
  expect(order.slice(4)).toEqual(["urgent", "urgent too", "background"]);
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

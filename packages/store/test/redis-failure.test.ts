import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { silentLogger } from "@isthmus/service";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openStore, type Store } from "../src/index.ts";
import { RedisProcess, Sightings } from "../src/testing.ts";
import { eventually } from "./eventually.ts";
import { Ledger } from "./ledger.ts";
import { writeForever } from "./writers.ts";

const logger = silentLogger();
const UNAVAILABLE = expect.objectContaining({ name: "IsthmusError", code: "store-unavailable" });

let redis: RedisProcess;
let store: Store;
const cleanups: (() => unknown)[] = [];

async function open(url: string, options: { timeoutMs?: number; heartbeatMs?: number } = {}): Promise<Store> {
  const opened = await openStore(url, { logger, heartbeatMs: 200, timeoutMs: 10_000, ...options });
  cleanups.push(() => opened.close());
  return opened;
}

/** A connection past the store, to do to Redis what an operator or a failure may do. */
async function admin(url = redis.url): Promise<Redis> {
  const connection = new Redis(url, { lazyConnect: true });
  connection.on("error", () => undefined);
  await connection.connect();
  cleanups.push(() => connection.disconnect());
  return connection;
}

/** A way to Redis that can lose the answers, until it is cut; later connections are whole. */
async function startProxy(target: number) {
  let swallowing = false;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const onward = connect(target, "127.0.0.1");
    for (const end of [socket, onward]) {
      sockets.add(end);
      end.on("error", () => undefined).on("close", () => void [socket.destroy(), onward.destroy()]);
    }
    socket.pipe(onward);
    onward.on("data", (bytes) => void (swallowing || socket.write(bytes)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    swallowing = false;
  };
  return {
    port: (server.address() as AddressInfo).port,
    swallowAnswers() {
      swallowing = true;
    },
    cut,
    close() {
      server.close();
      cut();
    },
  };
}

beforeEach(async () => {
  redis = await RedisProcess.start();
  cleanups.push(() => redis.remove());
  store = await open(redis.url);
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

describe("Redis down", () => {
  it("is store-unavailable for every call, at once, and works again without a restart when Redis is back", async () => {
    // A command that waited for Redis would outlast the test.
    const patient = await open(redis.url, { timeoutMs: 1_000_000 });
    const version = await patient.compareAndSet("k", 0, 1);
    await redis.kill();
    await eventually(() => expect(patient.health().ok).toBe(false));
    await expect(patient.get("k")).rejects.toEqual(UNAVAILABLE);
    await expect(patient.compareAndSet("k", version, 2)).rejects.toEqual(UNAVAILABLE);
    await expect(patient.scan("")).rejects.toEqual(UNAVAILABLE);
    await expect(patient.watch("", new Sightings())).rejects.toEqual(UNAVAILABLE);
    expect(patient.health().detail).toContain(`Redis 127.0.0.1:${redis.port}: `);

    await redis.restart();
    expect(await eventually(() => patient.get("k"))).toEqual({ value: 1, version });
    expect(await patient.compareAndSet("k", version, 2)).toBeGreaterThan(version);
    await eventually(() => expect(patient.health()).toEqual({ ok: true }));
  });

  it("is over within 5 s of its return, also for who looks at its health alone", { timeout: 30_000 }, async () => {
    const usual = await openStore(redis.url, { logger });
    cleanups.push(() => usual.close());
    await redis.kill();
    // Attempts have become rare by then, and a look at the server has failed.
    await sleep(6000);
    await redis.restart();
    await eventually(() => expect(usual.health()).toEqual({ ok: true }), 5000);
  });

  it("fails the commands under way when the connection breaks", async () => {
    redis.freeze();
    const asked = [store.get("k"), store.compareAndSet("k", 0, 1), store.scan("")];
    const settled = Promise.allSettled(asked);
    await redis.kill();
    for (const outcome of await settled) expect(outcome).toEqual({ status: "rejected", reason: UNAVAILABLE });
  });

  it("gives up on a Redis that does not answer, and is well again when it does", async () => {
    const hasty = await open(redis.url, { timeoutMs: 300 });
    redis.freeze();
    await expect(hasty.get("k")).rejects.toEqual(UNAVAILABLE);
    await eventually(() => expect(hasty.health()).toEqual({ ok: false, detail: expect.stringContaining("no answer") }));
    redis.resume();
    await eventually(() => expect(hasty.health()).toEqual({ ok: true }));
    expect(await eventually(() => hasty.get("k"))).toBeUndefined();
  });

  it("never sends a write twice: it would conflict with itself", async () => {
    const proxy = await startProxy(redis.port);
    cleanups.push(() => proxy.close());
    const proxied = await open(`redis://127.0.0.1:${proxy.port}`);
    proxy.swallowAnswers();
    const outcome = proxied.compareAndSet("k", 0, 1).then(
      () => "written",
      (error) => error.code,
    );
    await eventually(async () => expect(await store.get("k")).toBeDefined());
    proxy.cut();
    expect(await outcome).toBe("store-unavailable");
    const { version } = (await store.get("k"))!;
    expect(await eventually(() => proxied.get("k"))).toEqual({ value: 1, version });
  });

  it("loses no acknowledged write when Redis is killed, again and again", { timeout: 60_000 }, async () => {
    const ledger = new Ledger();
    for (let round = 0; round < 4; round++) {
      const enough = ledger.acknowledged + 100 + Math.floor(Math.random() * 300);
      let killed: Promise<void> | undefined;
      const writing = writeForever(store, {
        tried: (key, content) => ledger.tried(key, content),
        done: (key, content, version) => {
          ledger.done(key, content, version);
          if (ledger.acknowledged >= enough) killed ??= redis.kill();
        },
      });
      await expect(writing).rejects.toEqual(UNAVAILABLE);
      await killed;
      await redis.restart();
      await eventually(() => store.get("writer"));
      await ledger.check(store);
    }
    expect(ledger.acknowledged).toBeGreaterThan(400);
  });

  it("is store-unavailable while Redis takes no writes, which health tells without writing", async () => {
    const operator = await admin();
    await store.compareAndSet("k", 0, 1);
    const keys = await operator.dbsize();
    await operator.config("SET", "maxmemory", "1");
    await expect(store.compareAndSet("l", 0, 1)).rejects.toEqual(UNAVAILABLE);
    await eventually(() => expect(store.health()).toEqual({ ok: false, detail: expect.stringContaining("OOM") }));
    expect((await store.get("k"))!.value).toBe(1);
    await operator.config("SET", "maxmemory", "0");
    await eventually(() => expect(store.health()).toEqual({ ok: true }));
    expect(await operator.dbsize()).toBe(keys);
    await store.compareAndSet("l", 0, 1);
  });
});

describe("watching through failures", () => {
  it("tells that changes may be lost when Redis restarts, and reports those after it", async () => {
    const seen = new Sightings();
    await store.watch("", seen);
    const version = await store.compareAndSet("k", 0, 1);
    await seen.until(({ changes }) => changes.length === 1);
    await redis.kill();
    await redis.restart();
    await seen.until(({ resyncs }) => resyncs > 0);
    await eventually(() => store.compareAndSet("k", version, 2));
    await seen.until(({ changes }) => changes.length === 2);
    expect(seen.changes[1]!.entry!.value).toBe(2);
  });

  it("notices a lost change by the next one", async () => {
    const patient = await open(redis.url, { heartbeatMs: 1_000_000 });
    const seen = new Sightings();
    await patient.watch("", seen);
    const version = await patient.compareAndSet("k", 0, 1);
    await seen.until(({ changes }) => changes.length === 1);
    // As if a write of which no message came had taken place between the two.
    await (await admin()).set("isthmus:{store}:clock", version + 1);
    const second = await patient.compareAndSet("k", version, 2);
    await seen.until(({ resyncs }) => resyncs > 0);
    await patient.compareAndSet("k", second, 3);
    await seen.until(({ changes }) => changes.some(({ entry }) => entry?.value === 3));
  });

  it("notices a lost change that no other follows", async () => {
    const seen = new Sightings();
    await store.watch("", seen);
    const version = await store.compareAndSet("k", 0, 1);
    await seen.until(({ changes }) => changes.length === 1);
    await (await admin()).set("isthmus:{store}:clock", version + 1);
    await seen.until(({ resyncs }) => resyncs > 0);
  });

  it("notices one that was lost as soon as the subscription was renewed", async () => {
    const calm = await open(redis.url, { heartbeatMs: 1_500 });
    const operator = await admin();
    const seen = new Sightings();
    await calm.watch("", seen);
    const version = await calm.compareAndSet("k", 0, 1);
    await operator.call("client", "kill", "type", "pubsub");
    await seen.until(({ resyncs }) => resyncs === 1);
    await operator.set("isthmus:{store}:clock", version + 1);
    await seen.until(({ resyncs }) => resyncs === 2);
  });

  it("subscribes anew when only that connection breaks", async () => {
    const seen = new Sightings();
    await store.watch("", seen);
    await (await admin()).call("client", "kill", "type", "pubsub");
    await seen.until(({ resyncs }) => resyncs > 0);
    await store.compareAndSet("k", 0, 1);
    await seen.until(({ changes }) => changes.length === 1);
  });

  it("renews the subscription no more often than it broke, however much is written meanwhile", async () => {
    const writer = await open(redis.url);
    const operator = await admin();
    const seen = new Sightings();
    await store.watch("", seen);
    let writing = true;
    const writers = Promise.all(
      Array.from({ length: 30 }, async (_, index) => {
        for (let version = 0; writing; ) version = await writer.compareAndSet(`k/${index}`, version, index);
      }),
    );
    for (let round = 1; round <= 3; round++) {
      await operator.call("client", "kill", "type", "pubsub");
      // The other store's subscription breaks, too; this one's must stand for a while.
      await seen.until(({ resyncs }) => resyncs >= round);
      const before = seen.changes.length;
      await seen.until(({ changes }) => changes.length >= before + 300);
    }
    writing = false;
    await writers;
    expect(seen.resyncs).toBe(3);
  });

  it("leaves a connection that stands but is silent", { timeout: 30_000 }, async () => {
    const hasty = await open(redis.url, { timeoutMs: 300 });
    const seen = new Sightings();
    await hasty.watch("", seen);
    redis.freeze();
    await eventually(() => expect(hasty.health().detail).toContain("Socket timeout"));
    redis.resume();
    await seen.until(({ resyncs }) => resyncs > 0);
    await eventually(() => expect(hasty.health()).toEqual({ ok: true }));
  });
});

describe("versions", () => {
  it("do not repeat when Redis forgets its last writes", async () => {
    const operator = await admin();
    const first = await store.compareAndSet("k", 0, "old");
    const before = await operator.get("isthmus:{store}:clock");
    const lost = await store.compareAndSet("k", first, "lost");
    // What a failover to a replica that lags behind, or a crash without an fsync, leaves.
    await operator.hset("isthmus:{store}:records", "k", `${first} "old"`);
    await operator.set("isthmus:{store}:clock", before!);
    expect(await store.compareAndSet("k", first, "new")).toBeGreaterThan(lost);
    await expect(store.compareAndSet("k", lost, "stale")).rejects.toMatchObject({ code: "conflict" });
  });

  it("grow even when the clock of Redis' host was ahead for a while", async () => {
    const ahead = 4_000_000_000_000_000;
    await (await admin()).set("isthmus:{store}:clock", String(ahead));
    expect(await store.compareAndSet("k", 0, 1)).toBe(ahead + 1);
    expect(await store.compareAndSet("k", ahead + 1, 2)).toBe(ahead + 2);
    expect((await store.get("k"))!.version).toBe(ahead + 2);
  });
});

describe("what a URL names", () => {
  it("keeps databases and keyspaces of one Redis apart, their watchers too", async () => {
    const [other, named] = [await open(`${redis.url}/1`), await open(`${redis.url}?keyspace=other`)];
    const views = [store, other, named].map((view) => ({ view, seen: new Sightings() }));
    for (const { view, seen } of views) await view.watch("", seen);
    for (const [index, { view }] of views.entries()) await view.compareAndSet("k", 0, index);
    for (const [index, { view, seen }] of views.entries()) {
      expect((await view.get("k"))!.value).toBe(index);
      await seen.until(({ changes }) => changes.length === 1);
      expect(seen.changes.map(({ entry }) => entry!.value)).toEqual([index]);
    }
  });

  it("logs in, and says what is wrong when that fails, but never the password", async () => {
    const operator = await admin();
    await operator.call("acl", "setuser", "isb", "on", ">p@ss/wörd:1", "~isthmus:*", "&isthmus:*", "+@all");
    await operator.config("SET", "requirepass", "s3cret");
    const { port } = redis;
    for (const login of ["isb:p%40ss%2Fw%C3%B6rd%3A1", ":s3cret"]) {
      const mine = await open(`redis://${login}@127.0.0.1:${port}?keyspace=${login.length}`);
      await mine.compareAndSet("k", 0, 1);
    }
    await expect(open(`redis://isb:wrong1@127.0.0.1:${port}`)).rejects.toMatchObject({
      code: "store-unavailable",
      message: expect.stringMatching(new RegExp(`^cannot use Redis 127.0.0.1:${port}: WRONGPASS`)),
    });
    await expect(open(`redis://127.0.0.1:${port}`)).rejects.toThrow("NOAUTH");
  });

  it("says where nothing listens", async () => {
    await redis.kill();
    await expect(open(redis.url)).rejects.toMatchObject({
      code: "store-unavailable",
      message: expect.stringContaining(`ECONNREFUSED 127.0.0.1:${redis.port}`),
    });
  });
});

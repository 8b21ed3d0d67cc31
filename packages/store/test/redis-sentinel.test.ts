import { randomUUID } from "node:crypto";
import { silentLogger } from "@isthmus/service";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { openStore, type Store } from "../src/index.ts";
import { describeStore, RedisProcess, Sightings } from "../src/testing.ts";
import { eventually } from "./eventually.ts";

const logger = silentLogger();
const cleanups: (() => unknown)[] = [];

/** A master, its replica and one Sentinel that watches them impatiently. */
class Trio {
  readonly master: RedisProcess;
  readonly replica: RedisProcess;
  readonly sentinel: RedisProcess;

  private constructor(master: RedisProcess, replica: RedisProcess, sentinel: RedisProcess) {
    this.master = master;
    this.replica = replica;
    this.sentinel = sentinel;
  }

  static async start(): Promise<Trio> {
    const master = await RedisProcess.start();
    const replica = await RedisProcess.start({ config: () => [`replicaof 127.0.0.1 ${master.port}`] });
    await ask(replica, async (connection) => {
      await eventually(async () => expect(await connection.info("replication")).toContain("master_link_status:up"));
    });
    const sentinel = await RedisProcess.start({
      sentinel: true,
      config: () => [
        `sentinel monitor main 127.0.0.1 ${master.port} 1`,
        "sentinel down-after-milliseconds main 500",
        "sentinel failover-timeout main 3000",
      ],
    });
    await ask(sentinel, async (connection) => {
      await eventually(async () => expect(await connection.call("sentinel", "replicas", "main")).toHaveLength(1));
    });
    return new Trio(master, replica, sentinel);
  }

  get url(): string {
    return `redis+sentinel://127.0.0.1:${this.sentinel.port}/main`;
  }

  async remove(): Promise<void> {
    await Promise.all([this.master.remove(), this.replica.remove(), this.sentinel.remove()]);
  }
}

async function ask<T>(redis: RedisProcess, question: (connection: Redis) => Promise<T>): Promise<T> {
  const connection = new Redis(redis.url);
  connection.on("error", () => undefined);
  try {
    return await question(connection);
  } finally {
    connection.disconnect();
  }
}

async function open(url: string): Promise<Store> {
  const store = await openStore(url, { logger, timeoutMs: 2_000, heartbeatMs: 200 });
  cleanups.push(() => store.close());
  return store;
}

describe("with nothing failing", () => {
  let trio: Trio;
  beforeAll(async () => {
    trio = await Trio.start();
  }, 60_000);
  afterAll(() => trio.remove());

  describeStore("redis+sentinel", { shared: true, lasting: true }, async () => {
    const url = `${trio.url}/1?keyspace=${randomUUID()}`;
    return { open: () => openStore(url, { logger, timeoutMs: 10_000 }), remove: async () => {} };
  });

  it("refuses a master that the Sentinels do not know", async () => {
    await expect(open(trio.url.replace("/main", "/other"))).rejects.toMatchObject({ code: "store-unavailable" });
  });
});

describe("failover", () => {
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  it.each([
    ["dies", (master: RedisProcess) => master.kill()],
    ["freezes", (master: RedisProcess) => master.freeze()],
  ])("goes on with the replica when the master %s", { timeout: 60_000 }, async (_, fail) => {
    const trio = await Trio.start();
    cleanups.push(() => trio.remove());
    const store = await open(trio.url);
    const seen = new Sightings();
    await store.watch("", seen);
    const version = await store.compareAndSet("k", 0, 1);
    await seen.until(({ changes }) => changes.length === 1);
    // Replication is not awaited by the acknowledgement.
    await ask(trio.replica, async (connection) => {
      await eventually(async () => expect(await connection.hget("isthmus:{store}:records", "k")).not.toBeNull());
    });

    await fail(trio.master);
    await eventually(() => store.compareAndSet("k", version, 2), 40_000);
    await seen.until(({ resyncs }) => resyncs > 0);
    const { version: newest } = (await store.get("k"))!;
    await eventually(() => expect(store.health()).toEqual({ ok: true }));
    const last = await store.compareAndSet("k", newest, 3);
    await seen.until(({ changes }) => changes.at(-1)?.version === last);
    expect(await ask(trio.replica, (connection) => connection.role())).toContain("master");
  });
});

import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { promisify } from "node:util";
import { silentLogger } from "@isthmus/service";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { openStore, type Store, update } from "../src/index.ts";
import { describeStore, RedisProcess, Sightings } from "../src/testing.ts";
import { eventually } from "./eventually.ts";

const logger = silentLogger();
const cleanups: (() => unknown)[] = [];
let nodes: RedisProcess[] = [];
let url: string;

async function cli(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)("redis-cli", args, { timeout: 60_000 });
  return stdout;
}

async function ask<T>(node: RedisProcess, question: (connection: Redis) => Promise<T>): Promise<T> {
  const connection = new Redis(node.url);
  connection.on("error", () => undefined);
  try {
    return await question(connection);
  } finally {
    connection.disconnect();
  }
}

async function settled(): Promise<void> {
  for (const node of nodes) {
    await ask(node, (connection) =>
      eventually(async () => expect(await connection.cluster("INFO")).toContain("cluster_state:ok"), 30_000),
    );
  }
}

/** The node that holds a keyspace, by its own word. */
async function ownerOf(keyspace: string): Promise<{ owner: RedisProcess; slot: number }> {
  const slot = Number(await ask(nodes[0]!, (connection) => connection.cluster("KEYSLOT", `{${keyspace}}`)));
  const ranges = await ask(nodes[0]!, (connection) => connection.cluster("SLOTS"));
  const [, , master] = ranges.find(([first, last]) => first <= slot && slot <= last)!;
  const port = master![1];
  return { owner: nodes.find((node) => node.port === port)!, slot };
}

async function open(target: string): Promise<Store> {
  const store = await openStore(target, { logger, timeoutMs: 5_000, heartbeatMs: 200 });
  cleanups.push(() => store.close());
  return store;
}

beforeAll(async () => {
  const config = () => ["cluster-enabled yes", "cluster-node-timeout 2000"];
  nodes = await Promise.all([1, 2, 3].map(() => RedisProcess.start({ config })));
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`);
  await cli("--cluster", "create", ...addresses, "--cluster-yes");
  await settled();
  url = `redis+cluster://${addresses.join(",")}`;
}, 90_000);

afterAll(async () => {
  await Promise.all(nodes.map((node) => node.remove()));
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

describeStore("redis+cluster", { shared: true, lasting: true }, async () => {
  const target = `${url}?keyspace=${randomUUID()}`;
  return { open: () => openStore(target, { logger, timeoutMs: 10_000 }), remove: async () => {} };
});

describe("a cluster that changes", () => {
  it("finds the others from one node, and watches through any", async () => {
    const stores = [];
    for (const { port } of nodes) stores.push(await open(`redis+cluster://127.0.0.1:${port}?keyspace=any`));
    const watching = await Promise.all(
      stores.map(async (store) => {
        const seen = new Sightings();
        await store.watch("", seen);
        return seen;
      }),
    );
    const version = await stores[0]!.compareAndSet("k", 0, 1);
    for (const seen of watching) await seen.until(({ changes }) => changes.at(-1)?.version === version);
  });

  it("counts right while its slot moves to another node", { timeout: 90_000 }, async () => {
    const store = await open(`${url}?keyspace=moving`);
    const { owner, slot } = await ownerOf("moving");
    const target = nodes.find((node) => node !== owner)!;
    let acknowledged = 0;
    let unknown = 0;
    let moved = false;
    const counting = Promise.all(
      Array.from({ length: 4 }, async () => {
        while (!moved) {
          try {
            await update(store, "count", (value) => ((value as number | undefined) ?? 0) + 1);
            acknowledged++;
          } catch (error) {
            expect(error).toMatchObject({ code: "store-unavailable" });
            unknown++;
          }
        }
      }),
    );
    await eventually(() => expect(acknowledged).toBeGreaterThan(10));
    await moveSlot(slot, owner, target);
    const before = acknowledged;
    await eventually(() => expect(acknowledged).toBeGreaterThan(before + 10));
    moved = true;
    await counting;
    expect((await ownerOf("moving")).owner).toBe(target);
    const count = (await store.get("count"))!.value;
    expect(count).toBeGreaterThanOrEqual(acknowledged);
    expect(count).toBeLessThanOrEqual(acknowledged + unknown);
  });

  it("is store-unavailable without the node that holds it, and works again when that is back", {
    timeout: 90_000,
  }, async () => {
    const store = await open(`${url}?keyspace=failing`);
    const seen = new Sightings();
    await store.watch("", seen);
    const version = await store.compareAndSet("k", 0, 1);
    const { owner } = await ownerOf("failing");
    await owner.kill();
    await expect(store.compareAndSet("k", version, 2)).rejects.toMatchObject({ code: "store-unavailable" });
    await expect(store.get("k")).rejects.toMatchObject({ code: "store-unavailable" });
    await eventually(() => expect(store.health().ok).toBe(false));
    await owner.restart();
    await settled();
    expect(await eventually(() => store.get("k"), 30_000)).toEqual({ value: 1, version });
    const second = await eventually(() => store.compareAndSet("k", version, 2), 30_000);
    // Whether the message came or was lost between the nodes: the watcher learns of it.
    await seen.until(({ changes, resyncs }) => resyncs > 0 || changes.at(-1)!.version === second);
    await eventually(() => expect(store.health()).toEqual({ ok: true }));
  });

  it("comes back after all nodes were gone", { timeout: 90_000 }, async () => {
    const store = await open(`${url}?keyspace=dark`);
    const version = await store.compareAndSet("k", 0, 1);
    await Promise.all(nodes.map((node) => node.kill()));
    await expect(store.get("k")).rejects.toMatchObject({ code: "store-unavailable" });
    await Promise.all(nodes.map((node) => node.restart()));
    await settled();
    expect(await eventually(() => store.get("k"), 30_000)).toEqual({ value: 1, version });
    await eventually(() => expect(store.health()).toEqual({ ok: true }), 30_000);
  });
});

/** As redis-cli does it, for one slot: the keys of a store move one by one. */
async function moveSlot(slot: number, from: RedisProcess, to: RedisProcess): Promise<void> {
  const [source, target] = await Promise.all(
    [from, to].map((node) => ask(node, (connection) => connection.cluster("MYID"))),
  );
  await ask(to, (connection) => connection.cluster("SETSLOT", slot, "IMPORTING", source as string));
  await ask(from, (connection) => connection.cluster("SETSLOT", slot, "MIGRATING", target as string));
  await ask(from, async (connection) => {
    for (;;) {
      const [key] = (await connection.cluster("GETKEYSINSLOT", slot, 1)) as string[];
      if (key === undefined) return;
      await connection.migrate("127.0.0.1", to.port, key, 0, 5_000);
    }
  });
  for (const node of [to, from, ...nodes.filter((each) => each !== to && each !== from)]) {
    await ask(node, (connection) => connection.cluster("SETSLOT", slot, "NODE", target as string));
  }
}

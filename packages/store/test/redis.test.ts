import { randomUUID } from "node:crypto";
import { silentLogger } from "@isthmus/service";
import { afterAll, beforeAll } from "vitest";
import { openStore } from "../src/index.ts";
import { describeStore, RedisProcess } from "../src/testing.ts";

const logger = silentLogger();
let redis: RedisProcess;

beforeAll(async () => {
  redis = await RedisProcess.start();
});

afterAll(() => redis.remove());

describeStore("redis", { shared: true, lasting: true }, async () => {
  // A keyspace each, on one server.
  const url = `${redis.url}?keyspace=${randomUUID()}`;
  return { open: () => openStore(url, { logger, timeoutMs: 10_000 }), remove: async () => {} };
});

import { fileURLToPath } from "node:url";
import { IsthmusError } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import { EmbeddedStore } from "./embedded/embedded-store.ts";
import { RedisStore } from "./redis/redis-store.ts";
import { isRedisUrl, parseRedisUrl } from "./redis/redis-url.ts";
import type { Store } from "./store.ts";

export interface OpenOptions {
  logger: Logger;
  /** Redis only: milliseconds that one command may take before it is `store-unavailable`; by default 900. */
  timeoutMs?: number;
  /** Redis only: milliseconds between two looks at the server; by default 5000. */
  heartbeatMs?: number;
}

/**
 * Opens the store that `url` names: a directory (also as `file:DIR`), `memory:` (the same store, gone when closed), or
 * a Redis as `parseRedisUrl` tells. The store works when this resolves; a later failure heals by itself.
 *
 * @throws IsthmusError `bad-request` for a wrong URL, `store-unavailable` with the reason in its message
 */
export async function openStore(url: string, options: OpenOptions): Promise<Store> {
  const { logger, timeoutMs = 900, heartbeatMs = 5_000 } = options;
  if (isRedisUrl(url)) return RedisStore.open(parseRedisUrl(url), { logger, timeoutMs, heartbeatMs });
  if (url === "memory:") return new EmbeddedStore(undefined, logger);
  if (url.startsWith("file://")) return new EmbeddedStore(fileURLToPath(url), logger);
  const directory = url.startsWith("file:") ? url.slice("file:".length) : url;
  if (directory === "" || /^[a-z][a-z0-9+.-]*:/i.test(directory)) {
    throw new IsthmusError("bad-request", "a store is a directory, file:DIR, memory: or a redis URL");
  }
  return new EmbeddedStore(directory, logger);
}

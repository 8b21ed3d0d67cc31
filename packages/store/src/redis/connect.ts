import { Cluster, Redis, type RedisOptions } from "ioredis";
import type { RedisNode, RedisTarget } from "./redis-url.ts";
import { type Client, SCRIPTS } from "./scripts.ts";

/** Milliseconds to dial one address. */
const CONNECT_MS = 3_000;
/** Milliseconds without any answer after which a connection with a command under way is given up and dialled anew. */
const SILENT_MS = 5_000;
/** Milliseconds between two attempts: random, doubling up to this. A Redis that is back is in use within 5 s. */
const LONGEST_RETRY_MS = 1_000;

export function retryDelay(attempt: number): number {
  return (0.5 + Math.random() / 2) * Math.min(100 * 2 ** Math.min(attempt, 10), LONGEST_RETRY_MS);
}

/**
 * Nothing is queued while there is no connection, and nothing is sent twice: a compare-and-set that took place before
 * the connection broke would, sent again, report a conflict with itself.
 */
const COMMON = {
  lazyConnect: true,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  connectTimeout: CONNECT_MS,
  socketTimeout: SILENT_MS,
} satisfies RedisOptions;

function loginOf(target: RedisTarget): RedisOptions {
  return {
    ...(target.username !== undefined && { username: target.username }),
    ...(target.password !== undefined && { password: target.password }),
    ...(target.tls && { tls: {} }),
  };
}

function serverOf(target: RedisTarget): RedisOptions {
  const { kind, nodes, db, tls, master, sentinelPassword } = target;
  if (kind === "single") return { ...nodes[0]!, ...loginOf(target), db };
  return {
    sentinels: nodes,
    name: master!,
    ...loginOf(target),
    ...(tls && { enableTLSForSentinelMode: true, sentinelTLS: {} }),
    ...(sentinelPassword !== undefined && { sentinelPassword }),
    sentinelRetryStrategy: retryDelay,
    sentinelCommandTimeout: CONNECT_MS,
    db,
  };
}

/** For reads and writes; it reconnects by itself. The caller adds an `error` listener before it connects. */
export function createClient(target: RedisTarget): Client {
  if (target.kind === "cluster") {
    return new Cluster(target.nodes, {
      lazyConnect: true,
      // Without it a command fails whenever its node is just being dialled, as at a first use. Commands for a cluster
      // that is lost would wait in the same queue: RedisStore sends none then.
      enableOfflineQueue: true,
      clusterRetryStrategy: retryDelay,
      // See COMMON: 0 means that a command is not sent again.
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
      slotsRefreshTimeout: CONNECT_MS,
      scripts: SCRIPTS,
      redisOptions: { ...COMMON, ...loginOf(target) },
    }) as unknown as Client;
  }
  return new Redis({
    ...COMMON,
    ...serverOf(target),
    retryStrategy: retryDelay,
    // After a failover Sentinel's old master lives on as a replica.
    reconnectOnError: (error) => error.message.includes("READONLY"),
    scripts: SCRIPTS,
  }) as unknown as Client;
}

/** For one subscription; when it breaks, it ends. Any node of a cluster passes on what is published on any other. */
export function createSubscriber(target: RedisTarget, client: Client): Redis {
  if (target.kind !== "cluster") return new Redis({ ...COMMON, ...serverOf(target), retryStrategy: null });
  const known: RedisNode[] = (client as unknown as Cluster)
    .nodes("master")
    .map(({ options }) => ({ host: options.host!, port: options.port! }));
  const nodes = known.length > 0 ? known : target.nodes;
  const node = nodes[Math.floor(Math.random() * nodes.length)]!;
  return new Redis({ ...COMMON, ...loginOf(target), ...node, retryStrategy: null });
}

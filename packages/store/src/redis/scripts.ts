import type { Cluster, Redis } from "ioredis";
import type { Change } from "../watchers.ts";

/**
 * The four names of one keyspace. The braces put all keys into one slot of a Redis Cluster, so that a script may touch
 * them together: a cluster then gives the store availability, but no more room or speed than one of its nodes has.
 */
export interface Keys {
  /** Hash: key -> "version json". */
  records: string;
  /** Sorted set of the keys, all of score 0: Redis orders those by their bytes. */
  index: string;
  /** The newest version of all. */
  clock: string;
  /** Pub/sub channel: "version version-before key json", json left out for a deletion. */
  changes: string;
}

export function keysOf(keyspace: string, db: number): Keys {
  const prefix = `isthmus:{${keyspace}}`;
  return {
    records: `${prefix}:records`,
    index: `${prefix}:index`,
    clock: `${prefix}:clock`,
    // Channels are common to all databases of a Redis.
    changes: `${prefix}:changes:${db}`,
  };
}

/**
 * Versions are microseconds of Redis' clock, or the last one plus 1 where that is greater. A plain counter would count
 * some numbers twice when Redis loses its last writes (a failover, a crash without an fsync), and then a stale
 * compare-and-set could succeed. %.0f because Lua 5.1 prints whole numbers above 1e14 in exponents.
 */
const COMPARE_AND_SET = `
local key, expected, json, channel = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local record = redis.call('HGET', KEYS[1], key)
local version = record and tonumber(string.match(record, '^%d+')) or 0
if version ~= expected then return 0 end
local before = tonumber(redis.call('GET', KEYS[3]) or '0')
local time = redis.call('TIME')
local now = math.max(before + 1, time[1] * 1000000 + time[2])
local text = string.format('%.0f', now)
redis.call('SET', KEYS[3], text)
if json == '' then
  redis.call('HDEL', KEYS[1], key)
  redis.call('ZREM', KEYS[2], key)
else
  redis.call('HSET', KEYS[1], key, text .. ' ' .. json)
  redis.call('ZADD', KEYS[2], 0, key)
end
redis.call('PUBLISH', channel, text .. ' ' .. string.format('%.0f', before) .. ' ' .. key .. ' ' .. json)
return now
`;

const SCAN = `
local keys = redis.call('ZRANGEBYLEX', KEYS[2], '[' .. ARGV[1], '(' .. ARGV[2], 'LIMIT', 0, ARGV[3])
if #keys == 0 then return {} end
return {keys, redis.call('HMGET', KEYS[1], unpack(keys))}
`;

export const SCRIPTS = {
  isthmusCompareAndSet: { lua: COMPARE_AND_SET, numberOfKeys: 3 },
  isthmusScan: { lua: SCAN, numberOfKeys: 2, readOnly: true },
};

/** A connection with the scripts above as commands. */
export type Client = (Redis | Cluster) & {
  /** @param json empty to delete; @returns the new version, 0 for a conflict */
  isthmusCompareAndSet(
    records: string,
    index: string,
    clock: string,
    key: string,
    expected: number,
    json: string,
    channel: string,
  ): Promise<number>;
  isthmusScan(
    records: string,
    index: string,
    from: string,
    to: string,
    limit: number,
  ): Promise<[] | [keys: string[], records: string[]]>;
};

export function decodeRecord(record: string): { value: unknown; version: number } {
  const space = record.indexOf(" ");
  return { version: Number(record.slice(0, space)), value: JSON.parse(record.slice(space + 1)) };
}

export interface PublishedChange extends Change {
  /** The version that was the newest before: a reader that saw another one last has missed something. */
  before: number;
}

export function decodeChange(message: string): PublishedChange {
  const [version, before, key] = message.split(" ", 3) as [string, string, string];
  const json = message.slice(version.length + before.length + key.length + 3);
  return { key, json: json === "" ? undefined : json, version: Number(version), before: Number(before) };
}

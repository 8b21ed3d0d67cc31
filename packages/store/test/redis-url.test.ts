import { silentLogger } from "@isthmus/service";
import { describe, expect, it } from "vitest";
import { openStore } from "../src/index.ts";
import { describeTarget, parseRedisUrl } from "../src/redis/redis-url.ts";

const single = { kind: "single", tls: false, nodes: [{ host: "h", port: 6379 }], db: 0, keyspace: "store" };
const pair = [
  { host: "h1", port: 1 },
  { host: "h2", port: 2 },
];

describe("a Redis URL", () => {
  it.each([
    ["redis://h", single],
    ["redis://h:7/", { ...single, nodes: [{ host: "h", port: 7 }] }],
    ["redis://h/3", { ...single, db: 3 }],
    ["rediss://h", { ...single, tls: true }],
    ["redis://[::1]:7", { ...single, nodes: [{ host: "::1", port: 7 }] }],
    ["redis://:pw@h", { ...single, password: "pw" }],
    ["redis://me:p%40%2F%3A@h", { ...single, username: "me", password: "p@/:" }],
    ["redis://h?keyspace=isb-2", { ...single, keyspace: "isb-2" }],
    ["redis+cluster://h1:1,h2:2", { ...single, kind: "cluster", nodes: pair }],
    ["rediss+cluster://me:pw@h", { ...single, kind: "cluster", tls: true, username: "me", password: "pw" }],
    ["redis+sentinel://h/main", { ...single, kind: "sentinel", nodes: [{ host: "h", port: 26379 }], master: "main" }],
    [
      "rediss+sentinel://me:pw@h1:1,h2:2/main/4?sentinel-password=s%26&keyspace=k",
      {
        kind: "sentinel",
        tls: true,
        nodes: pair,
        username: "me",
        password: "pw",
        sentinelPassword: "s&",
        master: "main",
        db: 4,
        keyspace: "k",
      },
    ],
  ])("%s is understood", (url, target) => {
    expect(parseRedisUrl(url)).toEqual(target);
  });

  it.each([
    ["redis://", "'' is not of the form host:port"],
    ["redis:h", "it has not the form"],
    ["redis+pigeon://h", "it has not the form"],
    ["redis://h:0", "'h:0' is not of the form host:port"],
    ["redis://h:65536", "'h:65536' is not of the form host:port"],
    ["redis://h:x", "'h:x' is not of the form host:port"],
    ["redis://::1", "'::1' is not of the form host:port"],
    ["redis://h1,h2", "several hosts need"],
    ["redis://h1,", "'' is not of the form host:port"],
    ["redis://h/main", "the database is a number"],
    ["redis://h/1/2", "the database is a number"],
    ["redis://secret@h", "before the @ stands"],
    ["redis://:secret%zz@h", "a % is followed by"],
    ["redis+sentinel://h", "/master-name"],
    ["redis+cluster://h/1", "one database only"],
    ["redis://h?tls=1", "'tls' is not a setting"],
    ["redis://h?keyspace=a%20b", "a keyspace is"],
    ["redis://h?keyspace={a}", "a keyspace is"],
    ["redis://h?sentinel-password=secret", "is for redis+sentinel"],
  ])("%s is refused with a reason that repeats no secret", async (url, reason) => {
    const opened = openStore(url, { logger: silentLogger() });
    await expect(opened).rejects.toMatchObject({ code: "bad-request", message: expect.stringContaining(reason) });
    await expect(opened).rejects.not.toThrow("secret%");
  });

  it("is described without a secret", () => {
    expect(describeTarget(parseRedisUrl("redis://me:pw@[::1]:7/3"))).toBe("Redis [::1]:7");
    expect(describeTarget(parseRedisUrl("redis+cluster://me:pw@h1:1,h2:2"))).toBe("Redis Cluster h1:1,h2:2");
    expect(describeTarget(parseRedisUrl("redis+sentinel://me:pw@h1:1/main?sentinel-password=x"))).toBe(
      "Redis 'main' by the Sentinels h1:1",
    );
  });
});

it.each(["", "file:", "http://h", "postgres://h", "memory:x"])("'%s' names no store", async (url) => {
  await expect(openStore(url, { logger: silentLogger() })).rejects.toMatchObject({ code: "bad-request" });
});

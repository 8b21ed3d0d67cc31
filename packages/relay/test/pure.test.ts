import { LEG_MAGIC, LIMITS } from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { publicAddresses } from "../src/addresses.ts";
import { cellsToAdd, cellsToKeep } from "../src/allocations/cell-plan.ts";
import { SideSources } from "../src/allocations/side-sources.ts";
import { greetingOf } from "../src/door/first-bytes.ts";
import { PendingConnections } from "../src/door/pending-connections.ts";
import { PairedOpens } from "../src/stream/paired-opens.ts";

const side = fc.constantFrom(0 as const, 1 as const);
const cells = fc.uniqueArray(fc.nat({ max: LIMITS.cellsPerAllocation - 1 }));

describe("the cells of an allocation", () => {
  it("grow by the asker's lowest free numbers, never beyond the limit", () => {
    fc.assert(
      fc.property(cells, side, fc.integer({ min: 1, max: 64 }), (present, asker, count) => {
        const free = Array.from({ length: LIMITS.cellsPerAllocation }, (_, n) => n).filter(
          (n) => n % 2 === asker && !present.includes(n),
        );
        if (free.length === 0) expect(() => cellsToAdd(present, asker, count)).toThrow("as many cells");
        else expect(cellsToAdd(present, asker, count)).toEqual(free.slice(0, count));
      }),
    );
  });

  it("shrink by what their opener gives back, but never to none", () => {
    fc.assert(
      fc.property(cells, side, fc.array(fc.nat({ max: 63 }), { minLength: 1 }), (present, asker, picks) => {
        const given = picks.map((pick) => pick * 2 + asker);
        const kept = cellsToKeep(present, asker, given);
        const own = present.filter((n) => n % 2 === asker);
        expect(kept.filter((n) => n % 2 !== asker).sort()).toEqual(present.filter((n) => n % 2 !== asker).sort());
        const left = own.filter((n) => !given.includes(n)).sort();
        if (left.length > 0) expect(kept.filter((n) => n % 2 === asker).sort()).toEqual(left);
        else expect(kept.filter((n) => n % 2 === asker)).toEqual(own.length > 0 ? [Math.min(...own)] : []);
      }),
    );
  });

  it("of the other side's opens are not given back", () => {
    expect(() => cellsToKeep([0, 1, 3], 0, [3])).toThrow("own opens");
  });
});

describe("the sources of a side", () => {
  it("are the session's and the newest others, eight in all", () => {
    const sources = new SideSources();
    for (let n = 1; n <= 10; n++) expect(sources.prove(`192.0.2.${n}`)).toBe(true);
    expect(sources.prefixes).toEqual([3, 4, 5, 6, 7, 8, 9, 10].map((n) => `192.0.2.${n}`));
    expect(sources.setSession("198.51.100.1")).toBe(true);
    expect(sources.prefixes).toEqual(["198.51.100.1", ...[4, 5, 6, 7, 8, 9, 10].map((n) => `192.0.2.${n}`)]);
    expect(sources.prove("192.0.2.4")).toBe(false);
    expect(sources.prove("192.0.2.99")).toBe(true);
    expect(sources.prefixes).toContain("192.0.2.4");
    expect(sources.prefixes).not.toContain("192.0.2.5");
    expect(sources.prefixes).toHaveLength(8);
  });

  it("follow the session, and take an IPv6 address for its /64", () => {
    const sources = new SideSources();
    expect(sources.setSession("2001:db8::1")).toBe(true);
    expect(sources.setSession("2001:db8::2")).toBe(false);
    expect(sources.prove("2001:db8::3")).toBe(false);
    expect(sources.prefixes).toEqual(["2001:db8:0:0::/64"]);
    expect(sources.setSession("::ffff:192.0.2.1")).toBe(true);
    expect(sources.prefixes).toEqual(["192.0.2.1"]);
    sources.clear();
    expect(sources.prefixes).toEqual([]);
  });
});

describe("opens that met at the stream endpoint", () => {
  const open = fc.record({
    generation: fc.constantFrom("g1", "g2"),
    openId: fc.oneof(fc.nat({ max: 40 }), fc.integer({ min: 8180, max: 8210 })),
    attempt: fc.nat({ max: 255 }),
  });

  it("do not meet again, later attempts may", () => {
    fc.assert(
      fc.property(fc.array(open, { maxLength: 40 }), (opens) => {
        const paired = new PairedOpens();
        const attempts = new Map<string, number>();
        const newest = new Map<string, number>();
        for (const { generation, openId, attempt } of opens) {
          const opener = `${generation} ${openId % 2}`;
          const isOld = openId <= (newest.get(opener) ?? -1) - 2 * 4096;
          const met = attempts.get(`${generation} ${openId}`) ?? -1;
          const may = paired.mayPair(generation, openId, attempt);
          expect(may).toBe(!isOld && attempt > met);
          if (!may) continue;
          paired.paired(generation, openId, attempt);
          attempts.set(`${generation} ${openId}`, attempt);
          newest.set(opener, Math.max(newest.get(opener) ?? -1, openId));
        }
      }),
      { numRuns: 500 },
    );
  });

  it("keep nothing of ids that were skipped", () => {
    const paired = new PairedOpens();
    paired.paired("g", 10, 0);
    paired.paired("g", 10 + 2 * 4096 - 2, 0);
    expect(paired.mayPair("g", 10, 1)).toBe(true);
    paired.paired("g", 10 + 3 * 4096, 5);
    expect(paired.mayPair("g", 10 + 2 * 4096, 0)).toBe(true);
    expect(paired.mayPair("g", 10, 1)).toBe(false);
  });
});

describe("the first bytes of a connection", () => {
  it.each([
    ["tls", Buffer.from([0x16, 0x03, 0x01, 0x02])],
    ["http", Buffer.from("GET /v1/session HTTP/1.1\r\n")],
    ["leg", Buffer.concat([LEG_MAGIC, Buffer.alloc(60)])],
  ] as const)("tell %s as soon as they can be told, however they are split", (greeting, bytes) => {
    for (let length = 0; length <= bytes.length; length++) {
      const known = length >= (greeting === "tls" ? 2 : 4);
      expect(greetingOf(bytes.subarray(0, length))).toBe(known ? greeting : "more");
    }
  });

  it("tell everything else apart", () => {
    for (const text of ["POST / HTTP/1.1", "SSH-2.0-x", "\x16\x02\x01", "ISTX", "GETX", "\0"]) {
      expect(greetingOf(Buffer.from(text, "latin1"))).toBe("unknown");
    }
  });
});

it("pending connections are bounded in all and by source", () => {
  const pending = new PendingConnections(5, 3);
  expect([1, 2, 3, 4].map(() => pending.enter("a"))).toEqual([true, true, true, false]);
  expect([1, 2, 3].map(() => pending.enter("b"))).toEqual([true, true, false]);
  expect(pending.size).toBe(5);
  pending.leave("a");
  expect([pending.enter("c"), pending.enter("a")]).toEqual([true, false]);
  for (const source of ["a", "a", "b", "b", "c"]) pending.leave(source);
  expect(pending.size).toBe(0);
});

it("addresses are the named ones, else the host's, else loopback, with the port that listens", () => {
  expect(
    publicAddresses(["203.0.113.1", "ist.example:8443", "2001:db8::1", "[2001:db8::2]", "[::1]:9"], 443, []),
  ).toEqual(["203.0.113.1:443", "ist.example:8443", "[2001:db8::1]:443", "[2001:db8::2]:443", "[::1]:9"]);
  expect(publicAddresses([], 4443, ["192.0.2.7", "fd00::7"])).toEqual(["192.0.2.7:4443", "[fd00::7]:4443"]);
  expect(publicAddresses([], 4443, [])).toEqual(["127.0.0.1:4443", "[::1]:4443"]);
  expect(publicAddresses(["ist.example"], 443)).toEqual(["ist.example:443"]);
});

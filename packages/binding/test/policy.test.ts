import { type Bind, irrelevance, policySchema } from "@isthmus/binding";
import { describe, expect, it } from "vitest";

const BIND: Bind = {
  family: "ipv4",
  protocol: "tcp",
  address: "0.0.0.0",
  port: 10_000,
  v6only: false,
  program: "rtorrent",
  uid: 1000,
};
const DEFAULT = policySchema.parse({});

/** What programs of Debian 12 bind. */
it.each<[string, Partial<Bind>, string | undefined]>([
  ["OpenArena's server", { protocol: "udp", port: 27_960 }, undefined],
  ["rTorrent", { family: "ipv6", address: "::" }, undefined],
  ["rTorrent told to use IPv4", { family: "ipv6", address: "::ffff:0.0.0.0" }, undefined],
  ["Transmission's second socket", { family: "ipv6", address: "::", v6only: true }, "ipv6-only"],
  ["a local service", { address: "127.0.0.1" }, "specific-address"],
  ["a local service on IPv6", { family: "ipv6", address: "::1" }, "specific-address"],
  ["a service of one address", { family: "ipv6", address: "::ffff:192.168.1.2" }, "specific-address"],
  ["a client", { port: 0 }, "any-port"],
  ["a web server", { port: 80 }, "privileged-port"],
  ["the last privileged port", { port: 1023 }, "privileged-port"],
  ["the first other port", { port: 1024 }, undefined],
  ["a raw socket", { protocol: "other" }, "other-protocol"],
])("%s", (_, change, reason) => {
  expect(irrelevance({ ...BIND, ...change }, DEFAULT)).toBe(reason);
});

it("without dual_stack no IPv6 socket is mapped", () => {
  const policy = policySchema.parse({ dualStack: false });
  expect(irrelevance({ ...BIND, family: "ipv6", address: "::" }, policy)).toBe("ipv6-only");
  expect(irrelevance(BIND, policy)).toBeUndefined();
});

describe("exclusions", () => {
  const policy = policySchema.parse({
    exclusions: [
      { protocol: "tcp", port: 9091 },
      { port: 5000, to: 5010 },
    ],
  });
  it.each([
    ["tcp", 9091, "excluded"],
    ["udp", 9091, undefined],
    ["tcp", 9092, undefined],
    ["udp", 4999, undefined],
    ["udp", 5000, "excluded"],
    ["tcp", 5010, "excluded"],
    ["tcp", 5011, undefined],
  ] as const)("%s %d: %s", (protocol, port, reason) => {
    expect(irrelevance({ ...BIND, protocol, port }, policy)).toBe(reason);
  });
});

it("of rules for programs the first that fits decides", () => {
  const policy = policySchema.parse({
    programs: [
      { program: "rtorrent", uid: 1000, map: true },
      { program: "rtorrent", map: false },
      { program: "*", uid: 0, map: false },
    ],
  });
  const of = (program: string, uid: number) => irrelevance({ ...BIND, program, uid }, policy);
  expect(of("rtorrent", 1000)).toBeUndefined();
  expect(of("rtorrent", 1001)).toBe("program-excluded");
  expect(of("nc", 0)).toBe("program-excluded");
  expect(of("nc", 1001)).toBeUndefined();
});

it.each([
  { exclusions: [{ port: 0 }] },
  { exclusions: [{ protocol: "sctp", port: 1 }] },
  { programs: [{ program: "a-name-that-is-too-long", map: true }] },
  { unknown: true },
])("%j is no policy", (policy) => {
  expect(policySchema.safeParse(policy).success).toBe(false);
});

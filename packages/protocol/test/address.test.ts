import { BlockList, SocketAddress } from "node:net";
import {
  canonicalIp,
  formatHostPort,
  hostPort,
  isLoopback,
  origin,
  parseHostPort,
  parseOrigin,
  sourcePrefix,
} from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

describe("HOST:PORT", () => {
  it.each([
    ["127.0.0.1:80", "127.0.0.1", 80],
    ["[::1]:443", "::1", 443],
    ["[2001:db8::a]:65535", "2001:db8::a", 65_535],
    ["example.org:1", "example.org", 1],
    ["localhost:8080", "localhost", 8080],
    ["a-b.example:1", "a-b.example", 1],
    ["1a.example:1", "1a.example", 1],
    [`${"a".repeat(63)}.example:1`, `${"a".repeat(63)}.example`, 1],
  ])("%s", (text, host, port) => {
    expect(parseHostPort(text)).toEqual({ host, port });
    expect(formatHostPort({ host, port })).toBe(text);
    expect(hostPort.parse(text)).toBe(text);
  });

  it.each([
    "",
    ":",
    ":80",
    "host",
    "host:",
    "host:0",
    "host:65536",
    "host:99999",
    "host:100000",
    "host:-1",
    "host:+1",
    "host:1e3",
    "host:0x50",
    "host: 80",
    "host:80 ",
    "host:80\n",
    "host:٨٠",
    "::1:80",
    "[::1]",
    "[::1]80",
    "[127.0.0.1]:80",
    "[host]:80",
    "[]:80",
    "[::1:80",
    "127.0.0.1.:80",
    "127.1:80",
    "256.0.0.1:80",
    "1.2.3:80",
    "-host:80",
    "host-:80",
    "ho..st:80",
    ".host:80",
    "ho_st:80",
    "hö.st:80",
    "host/path:80",
    "user@host:80",
    "ho st:80",
    "host\0:80",
    `${"a".repeat(64)}.example:80`,
    `${"a.".repeat(130)}a:80`,
    `${"a".repeat(100_000)}:80`,
  ])("%j is refused", (text) => {
    expect(parseHostPort(text)).toBeUndefined();
    expect(hostPort.safeParse(text).success).toBe(false);
  });

  it("comes back as it was, for every address", () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain()), fc.integer({ min: 1, max: 65_535 }), (host, port) => {
        expect(parseHostPort(formatHostPort({ host, port }))).toEqual({ host, port });
      }),
    );
  });

  it("random text is an address or nothing", () => {
    const parts = fc.array(fc.constantFrom("[", "]", ":", ".", "::", "1", "80", "a", "-", "\n", "%", "ffff"));
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          parts.map((list) => list.join("")),
        ),
        (text) => {
          const parsed = parseHostPort(text);
          if (parsed) expect(parseHostPort(formatHostPort(parsed))).toEqual(parsed);
        },
      ),
      { numRuns: 1000 },
    );
  });
});

describe("an origin", () => {
  it.each([
    ["ws://127.0.0.1:80", { host: "127.0.0.1", port: 80, secure: false }],
    ["wss://isb.example:443", { host: "isb.example", port: 443, secure: true }],
    ["wss://[::1]:443", { host: "::1", port: 443, secure: true }],
  ])("%s", (text, parsed) => {
    expect(parseOrigin(text)).toEqual(parsed);
    expect(origin.parse(text)).toBe(text);
  });

  it.each([
    "",
    "ws://",
    "http://host:80",
    "WSS://host:443",
    "wss://host",
    "wss://host:443/",
    "wss://host:443/path",
    "wss://host:443?q",
    "wss://user@host:443",
    "wss://host:443#f",
    " wss://host:443",
    "wss://host:443\n",
    "wss:/host:443",
    "wss://wss://host:443",
  ])("%j is refused", (text) => {
    expect(parseOrigin(text)).toBeUndefined();
    expect(origin.safeParse(text).success).toBe(false);
  });
});

describe("canonicalIp", () => {
  it.each([
    ["127.0.0.1", "127.0.0.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::FFFF:192.0.2.1", "192.0.2.1"],
    ["fe80::1%eth0", "fe80::1"],
    ["2001:DB8::A", "2001:db8::a"],
    ["::1", "::1"],
    ["::ffff:1", "::ffff:1"],
    ["", ""],
  ])("%s is %s", (address, canonical) => {
    expect(canonicalIp(address)).toBe(canonical);
  });
});

describe("sourcePrefix", () => {
  it.each([
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::1", "0:0:0:0::/64"],
    ["::", "0:0:0:0::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8:1:2::", "2001:db8:1:2::/64"],
    ["2001:db8:0:2::5", "2001:db8:0:2::/64"],
    ["fe80::aaaa:1%wlan0", "fe80:0:0:0::/64"],
    ["64:ff9b::192.0.2.1", "64:ff9b:0:0::/64"],
    ["", ""],
  ])("%s is %s", (address, prefix) => {
    expect(sourcePrefix(address)).toBe(prefix);
  });

  it("is the same for two IPv6 addresses, as a socket reports them, exactly when their upper halves are", () => {
    const group = fc.constantFrom(0, 0, 0, 1, 0xabcd);
    const anyAddress = fc.array(group, { minLength: 8, maxLength: 8 }).map((groups) => {
      const address = groups.map((value) => value.toString(16)).join(":");
      return new SocketAddress({ address, family: "ipv6" }).address;
    });
    fc.assert(
      fc.property(anyAddress, anyAddress, (a, b) => {
        // The mapped and compatible ranges hold IPv4 addresses.
        fc.pre(!a.includes(".") && !b.includes("."));
        const half = new BlockList();
        half.addSubnet(a, 64, "ipv6");
        expect(sourcePrefix(a) === sourcePrefix(b)).toBe(half.check(b, "ipv6"));
      }),
      { numRuns: 2000 },
    );
  });
});

it.each([
  ["127.0.0.1", true],
  ["127.255.255.254", true],
  ["::1", true],
  ["localhost", true],
  ["::ffff:127.0.0.1", true],
  ["128.0.0.1", false],
  ["0.0.0.0", false],
  ["::", false],
  ["127.0.0.1.example.org", false],
  ["localhost.example.org", false],
  ["10.127.0.1", false],
])("isLoopback(%s) is %s", (host, is) => {
  expect(isLoopback(host)).toBe(is);
});

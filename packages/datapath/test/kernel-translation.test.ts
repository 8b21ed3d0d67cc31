import { AttributeCodec, AttributeWriter, IST_FAMILY } from "@isthmus/native/netlink";
import { CODES, sourcePrefix } from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PACKET_DROPS } from "../src/index.ts";
import { ipBytes, ipText } from "../src/kernel/ip-bytes.ts";
import {
  allocationOf,
  cellPorts,
  codeOf,
  dataPathStats,
  joinAllocations,
  kernelCell,
  kernelId,
  kernelLimits,
  kernelSources,
  kernelTimeouts,
  learnedPort,
  reasonOf,
  spliceDump,
} from "../src/kernel/translation.ts";

const REASONS = IST_FAMILY.enums.reason;

describe("addresses", () => {
  it.each([
    ["192.0.2.1", [192, 0, 2, 1]],
    ["::1", [...Array(15).fill(0), 1]],
    ["::", Array(16).fill(0)],
    ["2001:db8::5:0:0:1", [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 1]],
    ["fe80::1:2", [0xfe, 0x80, ...Array(10).fill(0), 0, 1, 0, 2]],
    ["1:2:3:4:5:6:7:8", [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8]],
  ])("%s is bytes and text", (text, bytes) => {
    expect([...ipBytes(text)]).toEqual(bytes);
    expect(ipText(Uint8Array.from(bytes))).toBe(text);
  });

  it("take IPv4 in IPv6 for IPv4, and refuse what is none", () => {
    expect([...ipBytes("::ffff:192.0.2.1")]).toEqual([192, 0, 2, 1]);
    expect(ipText(Uint8Array.from([...Array(10).fill(0), 255, 255, 192, 0, 2, 1]))).toBe("192.0.2.1");
    expect([...ipBytes("64:ff9b::192.0.2.1")].slice(12)).toEqual([192, 0, 2, 1]);
    expect(() => ipBytes("example.org")).toThrow(TypeError);
    expect(() => ipText(new Uint8Array(5))).toThrow(TypeError);
  });

  it("come back as they were, for all addresses", () => {
    const ipv4 = fc.property(fc.ipV4(), (address) => {
      expect(ipText(ipBytes(address))).toBe(address);
    });
    fc.assert(ipv4);
    // Zeros here and there.
    const group = fc.oneof(fc.constant([0, 0]), fc.tuple(fc.nat(255), fc.nat(255)));
    const bytes = fc.array(group, { minLength: 8, maxLength: 8 }).map((groups) => Uint8Array.from(groups.flat()));
    fc.assert(
      fc.property(bytes, (address) => {
        expect(ipBytes(ipText(address))).toEqual(ipText(address).includes(":") ? address : address.subarray(12));
        // The system writes them in the same way.
        expect(new URL(`http://[${ipText(address)}]/`).hostname).toBe(`[${ipText(address)}]`);
      }),
    );
  });
});

describe("the kernel's form of a cell", () => {
  it.each([
    ["passive", { ports: [20_000, 20_001] }, { port0: 20_000, port1: 20_001 }],
    [
      "pure, with ports that were agreed on",
      { ports: [20_000, 20_001], pure: {} },
      { port0: 20_000, port1: 20_001, remotePort0: 20_001, remotePort1: 20_000 },
    ],
    [
      "pure, where side 0 comes from any port",
      { ports: [20_000, 0], pure: { learns: 0 } },
      { port0: 20_000, port1: 0, remotePort0: 0, remotePort1: 20_000 },
    ],
    [
      "pure, where side 1 comes from any port",
      { ports: [0, 20_001], pure: { learns: 1 } },
      { port0: 0, port1: 20_001, remotePort0: 20_001, remotePort1: 0 },
    ],
  ] as const)("%s, comes back as it was", (_, cell, ports) => {
    const kernel = kernelCell({ cell: 4, ...cell });
    expect(kernel).toEqual({ number: 4, mode: "pure" in cell ? "pure" : "passive", ...ports });
    expect(cellPorts(kernel)).toEqual({ cell: 4, ...cell });
  });

  it("changes by the port that was learned, which a cell found in the kernel still has", () => {
    expect(learnedPort(4, 0, 5000)).toEqual({ number: 4, port1: 5000 });
    expect(learnedPort(4, 1, 5000)).toEqual({ number: 4, port0: 5000 });
    const found = { ...kernelCell({ cell: 4, ports: [20_000, 0], pure: { learns: 0 } }), ...learnedPort(4, 0, 5000) };
    expect(cellPorts(found)).toEqual({ cell: 4, ports: [20_000, 0], pure: { learns: 0 } });
  });
});

describe("the kernel's form of an allocation", () => {
  it("is what the specification describes", () => {
    const limits = { splices: 3, idleMs: 1, totalMs: 2, bytes: 2 ** 40, bytesPerSecond: 5, halfMs: 3500 };
    const attributes = {
      id: kernelId("ffffffffffffffa1"),
      sources: kernelSources([["192.0.2.1", sourcePrefix("2001:db8:1:2::7")], []]),
      limits: kernelLimits(limits),
      timeouts: kernelTimeouts(limits, 60_000),
      cell: [kernelCell({ cell: 4, ports: [20_000, 20_001] })],
    };
    const codec = new AttributeCodec(IST_FAMILY);
    const writer = new AttributeWriter();
    codec.write("alloc", attributes, writer);
    expect(codec.read("alloc", writer.bytes)).toEqual({
      id: 0xffffffffffffffa1n,
      sources: {
        source: [
          { side: 0, address: Uint8Array.of(192, 0, 2, 1) },
          { side: 0, address: Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0), prefix: 64 },
        ],
      },
      limits: { splices: 3, idle: 1n, total: 2n, bytes: 2n ** 40n, rate: 5n },
      timeouts: { half: 3500, udp: 60_000 },
      cell: [{ number: 4, mode: "passive", port0: 20_000, port1: 20_001 }],
    });
    expect(allocationOf(attributes.id)).toBe("ffffffffffffffa1");
    expect(allocationOf(kernelId("00000000000000a1"))).toBe("00000000000000a1");
  });

  it("is put together from several messages", () => {
    const cell = (number: number) => ({ number, port0: 1, port1: 2 });
    const joined = joinAllocations([
      { id: 1n, age: 5n, cell: [cell(0), cell(1)], more: true },
      { id: 1n, cell: [cell(2)] },
      { id: 2n },
      {},
    ]);
    expect(joined).toEqual([
      { id: 1n, age: 5n, cell: [cell(0), cell(1), cell(2)], more: true },
      { id: 2n, cell: [] },
    ]);
  });
});

describe("reasons", () => {
  it("of the kernel all have a code, and those that end something a true one", () => {
    for (const reason of REASONS) expect(CODES).toHaveProperty([codeOf(reason)]);
    const ends = REASONS.slice(REASONS.indexOf("finished"), REASONS.indexOf("stranger") + 1);
    expect(ends.filter((reason) => codeOf(reason) === "internal")).toEqual([]);
    expect(codeOf("unanswered")).toBe("timeout");
  });

  it("of a release are the kernel's where it has the word", () => {
    expect(reasonOf("revoked")).toBe("revoked");
    expect(reasonOf("drained")).toBe("drained");
    expect(reasonOf("store-unavailable")).toBe("released");
  });

  it("why packets were dropped are all known", () => {
    const packets = REASONS.slice(REASONS.indexOf("stranger"));
    expect(packets.filter((reason) => !Object.hasOwn(PACKET_DROPS, reason))).toEqual([]);
  });
});

describe("what the kernel tells", () => {
  it("of a splice", () => {
    const leg = (side: number, port: number, bytes: bigint) => ({
      side,
      remote: Uint8Array.of(192, 0, 2, 1 + side),
      remotePort: port,
      local: Uint8Array.of(192, 0, 2, 9),
      localPort: 20_000 + side,
      packets: 1n,
      bytes,
    });
    const splice = { id: 9n, alloc: 1n, cell: 4, proto: 17, leg: [leg(1, 5001, 20n), leg(0, 5000, 10n)] };
    expect(spliceDump({ ...splice, age: 7n, idle: 3n })).toEqual({
      splice: 9,
      cell: 4,
      proto: "udp",
      sources: [
        { host: "192.0.2.1", port: 5000 },
        { host: "192.0.2.2", port: 5001 },
      ],
      bytes: [10, 20],
      ageMs: 7,
      idleMs: 3,
    });
  });

  it("of its counters, by code and by reason", () => {
    const reasonCount = [
      { reason: "reset", ended: 2n, packets: 0n },
      { reason: "table-full", ended: 1n, packets: 4n },
      { reason: "no-memory", ended: 3n, packets: 0n },
      { reason: "stranger", ended: 0n, packets: 8n },
      { reason: "idle-limit", ended: 0n, packets: 1n },
    ] as const;
    expect(dataPathStats({ cells: 1, splices: 2, bytes: 5n, reasonCount: [...reasonCount] })).toEqual({
      cells: 1,
      halves: 0,
      splices: 2,
      udpSplices: 0,
      bytes: 5,
      closed: { reset: 2, "ist-full": 4 },
      dropped: { "table-full": 4, stranger: 8 },
    });
  });
});

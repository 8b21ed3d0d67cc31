import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { SpliceObject } from "@isthmus/native/bpf";
import { describe, expect, it } from "vitest";
import { SpliceMaps } from "../src/ebpf/splice-maps.ts";
import { ipBytes } from "../src/kernel/ip-bytes.ts";

interface Vector {
  name: string;
  to: string;
  toFlags: number;
  from: string;
  fromFlags: number;
  toIsn: string;
  fromIsn: string;
  fromWindow: number;
  defaultMss: number;
  mssLimit: number;
  bytes: string;
}

const VECTORS = new URL("../../../test/vectors/syn-ack.json", import.meta.url);
const { vectors } = JSON.parse(readFileSync(VECTORS, "utf8")) as { vectors: Vector[] };

/** Of a SYN without the option, of IPv6: what tells the vectors of that family. */
const MSS_DEFAULT6 = 1220;
const ADDRESSES = { 4: ["10.0.0.2", "10.0.0.3", "10.0.0.1"], 6: ["fd00::2", "fd00::3", "fd00::1"] } as const;
const PORTS = [20_000, 20_001] as const;
const SOURCE_PORTS = [40_000, 40_001] as const;
const TC_ACT_SHOT = 2;
const TC_ACT_REDIRECT = 7;
const ACK = 0x10;

const object = new SpliceObject(0);
const maps = new SpliceMaps(object);
maps.setLocals([ADDRESSES[4][2], ADDRESSES[6][2]].map(ipBytes));
let allocations = 0n;

/** A fresh cell of two sources, with nobody at it. */
function makeCell(family: 4 | 6): void {
  if (allocations > 0n) {
    maps.endSplices(
      Array.from(maps.splices(), ({ id }) => id),
      "released",
    );
    maps.removeCell(allocations, { cell: 0, ports: PORTS }, "released");
  }
  const id = ++allocations;
  const limits = { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: 3500, udpIdleMs: 60_000 };
  maps.setAllocation(id, limits);
  for (const side of [0, 1] as const) maps.addSource(id, side, ADDRESSES[family][side]);
  maps.addCell(id, { cell: 0, ports: PORTS });
}

function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let at = 0; at < bytes.length; at += 2) total += bytes[at]! * 256 + (bytes[at + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >> 16);
  return total;
}

/** What a checksum is the complement of; 0xffff when the header has a right one. */
function tcpSum(family: 4 | 6, frame: Buffer): number {
  const [addresses, header] =
    family === 4 ? [frame.subarray(26, 34), frame.subarray(34)] : [frame.subarray(22, 54), frame.subarray(54)];
  const pseudo = Buffer.alloc(4);
  pseudo.writeUInt16BE(6, 0);
  pseudo.writeUInt16BE(header.length, 2);
  return sum(Buffer.concat([addresses, pseudo, header]));
}

interface Segment {
  side: 0 | 1;
  seq: Buffer;
  ack?: Buffer;
  flags: number;
  window: number;
  options?: string;
  data?: Buffer;
}

/** What arrives from a source, as Ethernet has it. */
function frameOf(
  family: 4 | 6,
  { side, seq, ack, flags, window, options = "", data = Buffer.alloc(0) }: Segment,
): Buffer {
  const tcp = Buffer.alloc(20);
  // Headers are whole words; what fills them up is behind the list's end.
  const list = Buffer.from(options.padEnd(Math.ceil(options.length / 8) * 8, "0"), "hex");
  tcp.writeUInt16BE(SOURCE_PORTS[side], 0);
  tcp.writeUInt16BE(PORTS[side], 2);
  tcp.set(seq, 4);
  if (ack) tcp.set(ack, 8);
  tcp.writeUInt8((20 + list.length) * 4, 12);
  tcp.writeUInt8(flags, 13);
  tcp.writeUInt16BE(window, 14);
  const l4 = Buffer.concat([tcp, list, data]);
  const ip = Buffer.alloc(family === 4 ? 20 : 40);
  const [remote, local] = [ADDRESSES[family][side], ADDRESSES[family][2]].map(ipBytes) as [Uint8Array, Uint8Array];
  if (family === 4) {
    ip.set([0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6]);
    ip.writeUInt16BE(20 + l4.length, 2);
    ip.set(remote, 12);
    ip.set(local, 16);
    ip.writeUInt16BE(0xffff - sum(ip), 10);
  } else {
    ip.set([0x60, 0, 0, 0, 0, 0, 6, 64]);
    ip.writeUInt16BE(l4.length, 4);
    ip.set(remote, 8);
    ip.set(local, 24);
  }
  const ethernet = Buffer.from(`02000000000102000000000${side + 2}${family === 4 ? "0800" : "86dd"}`, "hex");
  const frame = Buffer.concat([ethernet, ip, l4]);
  frame.writeUInt16BE(0xffff - tcpSum(family, frame), 14 + ip.length + 16);
  return frame;
}

describe("the BPF program answers by the vectors", () => {
  it.each(vectors)("$name", (vector) => {
    const family = vector.defaultMss === MSS_DEFAULT6 ? 6 : 4;
    const ipBytesCount = family === 4 ? 20 : 40;
    // The route's limit is here the device's: packets come and go by it.
    execFileSync("ip", ["link", "set", "lo", "up", "mtu", String(vector.mssLimit + ipBytesCount + 20)]);
    makeCell(family);
    const isn = { to: Buffer.from(vector.toIsn, "hex"), from: Buffer.from(vector.fromIsn, "hex") };
    const first = frameOf(family, {
      side: 1,
      seq: isn.from,
      flags: vector.fromFlags,
      window: vector.fromWindow,
      options: vector.from,
    });
    expect(object.run("ist_splice", first).returned).toBe(TC_ACT_SHOT);

    const second = frameOf(family, { side: 0, seq: isn.to, flags: vector.toFlags, window: 1000, options: vector.to });
    const { returned, frame } = object.run("ist_splice", second);
    expect(returned).toBe(TC_ACT_SHOT);
    const header = frame.subarray(14 + ipBytesCount);
    expect([header.readUInt16BE(0), header.readUInt16BE(2)]).toEqual([PORTS[0], SOURCE_PORTS[0]]);
    expect(tcpSum(family, frame)).toBe(0xffff);
    if (family === 4) expect(sum(frame.subarray(14, 34))).toBe(0xffff);
    header.fill(0, 0, 4);
    header.fill(0, 16, 18);
    expect(header.toString("hex")).toBe(vector.bytes);

    // And what follows passes: the third segment of the one becomes one to the other.
    const sent = frameOf(family, {
      side: 0,
      seq: plusOne(isn.to),
      ack: plusOne(isn.from),
      flags: ACK,
      window: 500,
      data: Buffer.from("hello"),
    });
    const passed = object.run("ist_splice", sent);
    expect(passed.returned).toBe(TC_ACT_REDIRECT);
    const out = passed.frame.subarray(14 + ipBytesCount);
    expect([out.readUInt16BE(0), out.readUInt16BE(2)]).toEqual([PORTS[1], SOURCE_PORTS[1]]);
    expect(out.subarray(4, 16)).toEqual(sent.subarray(14 + ipBytesCount + 4, 14 + ipBytesCount + 16));
    expect(out.subarray(20).toString()).toBe("hello");
    expect(tcpSum(family, passed.frame)).toBe(0xffff);
    if (family === 4) expect(sum(passed.frame.subarray(14, 34))).toBe(0xffff);
    expect(passed.frame[family === 4 ? 22 : 21]).toBe(63);
  });
});

function plusOne(number: Buffer): Buffer {
  const result = Buffer.alloc(4);
  result.writeUInt32BE((number.readUInt32BE() + 1) >>> 0);
  return result;
}

import { readFileSync } from "node:fs";
import { LabError } from "./lab-error.ts";

/** One packet of a capture, from its IP header on, or a frame that is not IP with an empty flow. */
export interface CapturedPacket {
  /** Protocol, source and destination: `tcp 11.1.0.2:443 > 11.1.0.3:40001`. */
  flow: string;
  protocol: "tcp" | "udp" | "other";
  /** TCP's sequence number of the first payload byte; 0 otherwise. */
  sequence: number;
  payload: Buffer;
}

const PCAP_MAGIC = 0xa1b2c3d4;
const FILE_HEADER = 24;
const RECORD_HEADER = 16;

/** Link-layer types (https://www.tcpdump.org/linktypes.html): length of the header before the network layer. */
const LINK_HEADERS: Record<number, number> = { 1: 14, 113: 16, 276: 20, 12: 0, 101: 0 };

const PROTOCOLS = { 6: "tcp", 17: "udp" } as const;

/** Reads a file that `Capture` wrote. @throws LabError when it is none */
export function readCapture(file: string): CapturedPacket[] {
  const data = readFileSync(file);
  if (data.length < FILE_HEADER || data.readUInt32LE(0) !== PCAP_MAGIC) throw new LabError(`${file} is no pcap file`);
  const linkHeader = LINK_HEADERS[data.readUInt32LE(20)];
  if (linkHeader === undefined) throw new LabError(`${file} is of an unknown link type`);
  const packets: CapturedPacket[] = [];
  for (let offset = FILE_HEADER; offset + RECORD_HEADER <= data.length; ) {
    const length = data.readUInt32LE(offset + 8);
    const start = offset + RECORD_HEADER;
    packets.push(parsePacket(data.subarray(start + linkHeader, start + length)));
    offset = start + length;
  }
  return packets;
}

function parsePacket(packet: Buffer): CapturedPacket {
  const version = packet.length > 0 ? packet[0]! >> 4 : 0;
  if (version === 4 && packet.length >= 20) {
    const header = (packet[0]! & 15) * 4;
    // Without the padding of a short Ethernet frame. Zero is a super-packet that has no length yet.
    const total = packet.readUInt16BE(2) || packet.length;
    const address = (at: number) => [...packet.subarray(at, at + 4)].join(".");
    return parseTransport(packet[9]!, address(12), address(16), packet.subarray(header, total));
  }
  if (version === 6 && packet.length >= 40) {
    const total = packet.readUInt16BE(4) || packet.length;
    const address = (at: number) => `[${packet.subarray(at, at + 16).toString("hex")}]`;
    return parseTransport(packet[6]!, address(8), address(24), packet.subarray(40, 40 + total));
  }
  return { flow: "", protocol: "other", sequence: 0, payload: packet };
}

function parseTransport(number: number, source: string, destination: string, segment: Buffer): CapturedPacket {
  const protocol = PROTOCOLS[number as keyof typeof PROTOCOLS];
  const headerLength = protocol === "tcp" ? 20 : 8;
  if (!protocol || segment.length < headerLength) {
    return { flow: `${source} > ${destination}`, protocol: "other", sequence: 0, payload: segment };
  }
  const flow = `${protocol} ${source}:${segment.readUInt16BE(0)} > ${destination}:${segment.readUInt16BE(2)}`;
  if (protocol === "udp") return { flow, protocol, sequence: 0, payload: segment.subarray(8) };
  const isSyn = (segment[13]! & 2) !== 0;
  const payload = segment.subarray((segment[12]! >> 4) * 4);
  return { flow, protocol, sequence: (segment.readUInt32BE(4) + Number(isSyn)) >>> 0, payload };
}

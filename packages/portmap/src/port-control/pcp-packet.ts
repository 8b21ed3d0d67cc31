import { isIPv4 } from "node:net";
import type { Protocol } from "../gateway.ts";
import { PortmapError } from "../portmap-error.ts";
import { ANSWER_BIT, PROTOCOL_NUMBERS } from "./port-control.ts";

/** RFC 6887. All numbers are in network byte order, all addresses 16 bytes. */
const PCP_VERSION = 2;
const OP_ANNOUNCE = 0;
const OP_MAP = 1;
const OPTION_PREFER_FAILURE = 2;

const HEADER_BYTES = 24;
const MAP_BYTES = 36;
const MOST_BYTES = 1100;
export const PCP_NONCE_BYTES = 12;

/** Result codes (7.4). */
export const PCP_RESULT = {
  success: 0,
  unsupportedVersion: 1,
  notAuthorized: 2,
  malformedRequest: 3,
  unsupportedOpcode: 4,
  unsupportedOption: 5,
  malformedOption: 6,
  networkFailure: 7,
  noResources: 8,
  unsupportedProtocol: 9,
  exceededQuota: 10,
  cannotProvideExternal: 11,
  addressMismatch: 12,
  excessiveRemotePeers: 13,
} as const;

export interface PcpMapRequest {
  /** The own address, as the gateway sees it. */
  client: string;
  nonce: Buffer;
  protocol: Protocol;
  internalPort: number;
  /** The one suggested; 0 in a request to delete. */
  externalPort: number;
  /** Seconds; 0 deletes. */
  lifetimeSeconds: number;
  /** Rather an error than another port (13.2). */
  preferFailure: boolean;
}

export interface PcpMapAnswer {
  nonce: Buffer;
  /** IANA's number. */
  protocolNumber: number;
  internalPort: number;
  externalPort: number;
  /** Undefined when it is no IPv4 address. */
  externalAddress: string | undefined;
}

export interface PcpAnswer {
  opcode: "announce" | "map" | "other";
  result: number;
  /** Seconds: of the mapping, or (with an error) for which the error stands. */
  lifetimeSeconds: number;
  /** Seconds since the gateway lost its state. */
  epoch: number;
  /** Absent in an error that does not repeat what was asked. */
  map?: PcpMapAnswer;
}

/** `version, opcode, reserved 2, lifetime 4, client 16` */
export function pcpAnnounceRequest(client: string): Buffer {
  return header(OP_ANNOUNCE, 0, client);
}

/** The header, then `nonce 12, protocol, reserved 3, internal port 2, external port 2, external address 16`, options. */
export function pcpMapRequest(request: PcpMapRequest): Buffer {
  const body = Buffer.alloc(MAP_BYTES);
  request.nonce.copy(body, 0, 0, PCP_NONCE_BYTES);
  body[12] = PROTOCOL_NUMBERS[request.protocol];
  body.writeUInt16BE(request.internalPort, 16);
  body.writeUInt16BE(request.externalPort, 18);
  mappedAddress("0.0.0.0").copy(body, 20);
  const options = request.preferFailure ? Buffer.from([OPTION_PREFER_FAILURE, 0, 0, 0]) : Buffer.alloc(0);
  return Buffer.concat([header(OP_MAP, request.lifetimeSeconds, request.client), body, options]);
}

/**
 * `version, 128 + opcode, reserved, result, lifetime 4, epoch 4, reserved 12`, then what the opcode has.
 * @throws PortmapError `malformed`; `unsupported` when the gateway speaks NAT-PMP alone
 */
export function parsePcpAnswer(packet: Buffer): PcpAnswer {
  // RFC 6887, 9: a NAT-PMP gateway answers in its own format that it does not know version 2.
  if (packet.length >= 8 && packet[0] === 0 && packet[1]! >= ANSWER_BIT && packet.readUInt16BE(2) === 1) {
    throw new PortmapError("unsupported", "the gateway speaks NAT-PMP, but not PCP");
  }
  const isSound = packet.length >= HEADER_BYTES && packet.length <= MOST_BYTES && packet.length % 4 === 0;
  if (!isSound || packet[0] !== PCP_VERSION || packet[1]! < ANSWER_BIT) {
    throw new PortmapError("malformed", "the gateway's answer is no PCP");
  }
  const opcode = packet[1]! - ANSWER_BIT;
  const result = packet[3]!;
  const hasMap = opcode === OP_MAP && packet.length >= HEADER_BYTES + MAP_BYTES;
  if (opcode === OP_MAP && result === PCP_RESULT.success && !hasMap) {
    throw new PortmapError("malformed", "the gateway's PCP answer is too short");
  }
  return {
    opcode: opcode === OP_MAP ? "map" : opcode === OP_ANNOUNCE ? "announce" : "other",
    result,
    lifetimeSeconds: packet.readUInt32BE(4),
    epoch: packet.readUInt32BE(8),
    ...(hasMap && { map: mapAnswer(packet.subarray(HEADER_BYTES)) }),
  };
}

/** `::ffff:a.b.c.d` as 16 bytes. */
export function mappedAddress(ipv4: string): Buffer {
  if (!isIPv4(ipv4)) throw new PortmapError("invalid", `${ipv4} is no IPv4 address`);
  return Buffer.concat([MAPPED_PREFIX, Buffer.from(ipv4.split(".").map(Number))]);
}

const MAPPED_PREFIX = Buffer.from("00000000000000000000ffff", "hex");

function header(opcode: number, lifetimeSeconds: number, client: string): Buffer {
  const packet = Buffer.alloc(HEADER_BYTES);
  packet[0] = PCP_VERSION;
  packet[1] = opcode;
  packet.writeUInt32BE(lifetimeSeconds, 4);
  mappedAddress(client).copy(packet, 8);
  return packet;
}

function mapAnswer(body: Buffer): PcpMapAnswer {
  const address = body.subarray(20, 36);
  const isV4 = address.subarray(0, 12).equals(MAPPED_PREFIX);
  return {
    nonce: Buffer.from(body.subarray(0, PCP_NONCE_BYTES)),
    protocolNumber: body[12]!,
    internalPort: body.readUInt16BE(16),
    externalPort: body.readUInt16BE(18),
    externalAddress: isV4 ? address.subarray(12).join(".") : undefined,
  };
}

import type { Protocol } from "../gateway.ts";
import { PortmapError } from "../portmap-error.ts";
import { ANSWER_BIT } from "./port-control.ts";

/** RFC 6886. All numbers are in network byte order. */
const VERSION = 0;
const OP_ADDRESS = 0;
const OP_MAP: Record<Protocol, number> = { udp: 1, tcp: 2 };

const HEADER_BYTES = 8;
const ADDRESS_ANSWER_BYTES = 12;
const MAP_ANSWER_BYTES = 16;

/** Result codes (3.5). */
export const NAT_PMP_RESULT = {
  success: 0,
  unsupportedVersion: 1,
  notAuthorized: 2,
  networkFailure: 3,
  outOfResources: 4,
  unsupportedOpcode: 5,
} as const;

export interface NatPmpMapRequest {
  protocol: Protocol;
  internalPort: number;
  /** The one suggested; 0 in a request to delete. */
  externalPort: number;
  /** Seconds; 0 deletes. */
  lifetimeSeconds: number;
}

export interface NatPmpAnswer {
  result: number;
  /** Seconds since the gateway lost its state. */
  epoch: number;
  about:
    | { kind: "address"; address: string }
    | { kind: "map"; protocol: Protocol; internalPort: number; externalPort: number; lifetimeSeconds: number }
    /** A refusal that does not repeat what was asked. */
    | { kind: "refusal" };
}

/** `version, opcode` */
export function natPmpAddressRequest(): Buffer {
  return Buffer.from([VERSION, OP_ADDRESS]);
}

/** `version, opcode, reserved 2, internal port 2, suggested external port 2, lifetime 4` */
export function natPmpMapRequest(request: NatPmpMapRequest): Buffer {
  const packet = Buffer.alloc(12);
  packet[0] = VERSION;
  packet[1] = OP_MAP[request.protocol];
  packet.writeUInt16BE(request.internalPort, 4);
  packet.writeUInt16BE(request.externalPort, 6);
  packet.writeUInt32BE(request.lifetimeSeconds, 8);
  return packet;
}

/**
 * `version, 128 + opcode, result 2, epoch 4`, then an address, or `internal port 2, external port 2, lifetime 4`.
 * @throws PortmapError `malformed`
 */
export function parseNatPmpAnswer(packet: Buffer): NatPmpAnswer {
  if (packet.length < HEADER_BYTES || packet[0] !== VERSION || packet[1]! < ANSWER_BIT) throw malformed();
  const opcode = packet[1]! - ANSWER_BIT;
  const result = packet.readUInt16BE(2);
  return { result, epoch: packet.readUInt32BE(4), about: parseBody(packet, opcode, result) };
}

function parseBody(packet: Buffer, opcode: number, result: number): NatPmpAnswer["about"] {
  const protocol = (["udp", "tcp"] as const).find((name) => OP_MAP[name] === opcode);
  if (opcode === OP_ADDRESS && packet.length === ADDRESS_ANSWER_BYTES) {
    return { kind: "address", address: packet.subarray(8, 12).join(".") };
  }
  if (protocol !== undefined && packet.length === MAP_ANSWER_BYTES) {
    return {
      kind: "map",
      protocol,
      internalPort: packet.readUInt16BE(8),
      externalPort: packet.readUInt16BE(10),
      lifetimeSeconds: packet.readUInt32BE(12),
    };
  }
  if (result === NAT_PMP_RESULT.success) throw malformed();
  return { kind: "refusal" };
}

function malformed(): PortmapError {
  return new PortmapError("malformed", "the gateway's answer is no NAT-PMP");
}

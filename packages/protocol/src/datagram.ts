import { LIMITS } from "./limits.ts";

/**
 * A UDP datagram of a link:
 *
 *      0  1  bits 7..6 the lowest two bits of the generation, bits 5..0 type: 1 data, 2 part, 3 hello, 4 answer to a hello
 *      1  4  flow id, 0 for hello and its answer
 *      5  8  counter of this direction of the path, from 0, never repeated
 *     13  n  AEAD of the payload, tag of 16 bytes; nonce: 4 zero bytes and the counter; additional data: all before
 *
 * A part has 4 more bytes of additional data before the AEAD: message (16), index (8), parts - 1 (8).
 * A hello's payload is a nonce of 8 bytes and zeros up to the size that is probed for; its answer is the nonce and the
 * number of bytes of payload that arrived (16), so that the sender learns what size passes.
 *
 * On a direct path the dialler first sends a leg header of kind `leg` as a datagram of its own, until a hello comes back:
 * it says which path the source address belongs to.
 */
export const DATAGRAM_HEADER_BYTES = 13;
export const DATAGRAM_TAG_BYTES = 16;
export const DATAGRAM_OVERHEAD_BYTES = DATAGRAM_HEADER_BYTES + DATAGRAM_TAG_BYTES;
export const PART_HEADER_BYTES = 4;
export const MAX_PARTS = 256;

export const DATAGRAM_TYPE = { data: 1, part: 2, hello: 3, helloAnswer: 4 } as const;
export type DatagramType = (typeof DATAGRAM_TYPE)[keyof typeof DATAGRAM_TYPE];

export interface DatagramHeader {
  type: DatagramType;
  /** The two lowest bits of the generation's last byte. */
  generationBits: number;
  flow: number;
  counter: bigint;
  /** Of a part only. */
  part?: { message: number; index: number; count: number };
}

export function encodeDatagramHeader(header: DatagramHeader): Buffer {
  const { part } = header;
  const bytes = Buffer.alloc(DATAGRAM_HEADER_BYTES + (part ? PART_HEADER_BYTES : 0));
  bytes[0] = (header.generationBits << 6) | header.type;
  bytes.writeUInt32BE(header.flow, 1);
  bytes.writeBigUInt64BE(header.counter, 5);
  if (part) {
    bytes.writeUInt16BE(part.message, 13);
    bytes[15] = part.index;
    bytes[16] = part.count - 1;
  }
  return bytes;
}

/** `undefined` for anything that is no datagram of ours: it is counted and dropped without an answer. */
export function decodeDatagramHeader(bytes: Buffer): { header: DatagramHeader; length: number } | undefined {
  if (bytes.length < DATAGRAM_OVERHEAD_BYTES) return undefined;
  const type = bytes[0]! & 0x3f;
  if (type < DATAGRAM_TYPE.data || type > DATAGRAM_TYPE.helloAnswer) return undefined;
  const header: DatagramHeader = {
    type: type as DatagramType,
    generationBits: bytes[0]! >> 6,
    flow: bytes.readUInt32BE(1),
    counter: bytes.readBigUInt64BE(5),
  };
  if (type !== DATAGRAM_TYPE.part) return { header, length: DATAGRAM_HEADER_BYTES };
  if (bytes.length < DATAGRAM_OVERHEAD_BYTES + PART_HEADER_BYTES) return undefined;
  const part = { message: bytes.readUInt16BE(13), index: bytes[15]!, count: bytes[16]! + 1 };
  if (part.index >= part.count) return undefined;
  return { header: { ...header, part }, length: DATAGRAM_HEADER_BYTES + PART_HEADER_BYTES };
}

/** The two bits of a generation that a datagram shows. */
export function generationBits(generation: string): number {
  return Number.parseInt(generation.slice(-1), 16) & 3;
}

/** The largest application datagram that fits a path in one piece. @param pathBytes UDP payload that the path passes */
export function wholePayload(pathBytes: number): number {
  return pathBytes - DATAGRAM_OVERHEAD_BYTES;
}

/** How many parts a payload needs on a path. */
export function partsOf(payloadBytes: number, pathBytes: number = LIMITS.datagramFloorBytes): number {
  return Math.ceil(payloadBytes / (pathBytes - DATAGRAM_OVERHEAD_BYTES - PART_HEADER_BYTES));
}

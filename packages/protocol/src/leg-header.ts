import { createHmac, createSecretKey, timingSafeEqual } from "node:crypto";
import { IsthmusError } from "./codes.ts";
import { PROTOCOL_VERSION } from "./version.ts";

/**
 * What every connection to an IST's stream endpoint or to a daemon's leg port starts with, 64 bytes:
 *
 *      0  4  magic "ISTH"
 *      4  1  version
 *      5  1  kind: 1 leg, 2 control, 3 also, 4 probe
 *      6  1  side: of the allocation at an IST, Noise role of the dialler where direct
 *      7  1  attempt of the open (leg), else 0
 *      8  8  allocation, 0 where direct
 *     16  8  generation, 0 for `also`
 *     24  8  open id, 0 for control and also
 *     32 32  HMAC-SHA256 of bytes 0..31; key: the side's stream token at an IST, the link's direct key where direct
 *
 * Numbers are big endian. What a kind has no use for is zero, and refused otherwise.
 *
 * - `leg`: one TCP leg of an open. At an IST's stream endpoint it is paired with the other side's of equal generation and
 *   open id.
 * - `control`: a direct control connection; control frames follow, each behind its length as 16 bits.
 * - `also`: adds the connection's source address to those that may join this side of the allocation.
 * - `probe`: the ISB finds out whether a leg port can be reached. It carries a nonce in bytes 16..31 and zeros for the HMAC.
 */
export const LEG_HEADER_BYTES = 64;
export const LEG_MAGIC = Buffer.from("ISTH", "latin1");
const SIGNED_BYTES = 32;

const KINDS = { leg: 1, control: 2, also: 3, probe: 4 } as const;
export type LegKind = keyof typeof KINDS;
const KIND_NAMES = new Map<number, LegKind>(Object.entries(KINDS).map(([name, value]) => [value, name as LegKind]));

/** The ranges of bytes that a kind has no use for and leaves zero. */
const UNUSED: Record<LegKind, [from: number, to: number][]> = {
  leg: [],
  control: [
    [7, 8],
    [24, 32],
  ],
  also: [
    [7, 8],
    [16, 32],
  ],
  probe: [
    [6, 16],
    [32, 64],
  ],
};

export interface LegHeader {
  kind: LegKind;
  side: 0 | 1;
  attempt: number;
  /** 16 hexadecimal digits; zeros where direct. */
  allocation: string;
  /** 16 hexadecimal digits. */
  generation: string;
  openId: number;
}

export const NO_ID = "0000000000000000";

export function encodeLegHeader(header: LegHeader, key: Uint8Array): Buffer {
  const bytes = Buffer.alloc(LEG_HEADER_BYTES);
  writeSigned(bytes, header);
  createHmac("sha256", createSecretKey(key)).update(bytes.subarray(0, SIGNED_BYTES)).digest().copy(bytes, SIGNED_BYTES);
  return bytes;
}

/** The reachability probe that an ISB sends to a leg port. @param nonce 16 bytes */
export function encodeProbe(nonce: Uint8Array): Buffer {
  const bytes = Buffer.alloc(LEG_HEADER_BYTES);
  writeSigned(bytes, { kind: "probe", side: 0, attempt: 0, allocation: NO_ID, generation: NO_ID, openId: 0 });
  bytes.set(nonce, 16);
  return bytes;
}

function writeSigned(bytes: Buffer, header: LegHeader): void {
  LEG_MAGIC.copy(bytes);
  bytes[4] = PROTOCOL_VERSION;
  bytes[5] = KINDS[header.kind];
  bytes[6] = header.side;
  bytes[7] = header.attempt;
  bytes.write(header.allocation, 8, "hex");
  bytes.write(header.generation, 16, "hex");
  bytes.writeBigUInt64BE(BigInt(header.openId), 24);
}

/**
 * Reads the fields without trusting them: find the key by them, then {@link verifyLegHeader}.
 * @param bytes at least 64 bytes
 * @throws IsthmusError `bad-leg-header`, `unsupported-version`
 */
export function decodeLegHeader(bytes: Buffer): LegHeader {
  if (bytes.length < LEG_HEADER_BYTES || !bytes.subarray(0, 4).equals(LEG_MAGIC)) {
    throw new IsthmusError("bad-leg-header", "no leg header");
  }
  if (bytes[4] !== PROTOCOL_VERSION) throw new IsthmusError("unsupported-version", `leg header of version ${bytes[4]}`);
  const kind = KIND_NAMES.get(bytes[5]!);
  const side = bytes[6]!;
  if (kind === undefined || side > 1) throw new IsthmusError("bad-leg-header", "unknown kind or side");
  const openId = kind === "probe" ? 0n : bytes.readBigUInt64BE(24);
  if (openId > BigInt(Number.MAX_SAFE_INTEGER)) throw new IsthmusError("bad-leg-header", "open id out of range");
  if (UNUSED[kind].some(([from, to]) => bytes.subarray(from, to).some((byte) => byte !== 0))) {
    throw new IsthmusError("bad-leg-header", "a field that this kind does not use is set");
  }
  return {
    kind,
    side: side as 0 | 1,
    attempt: bytes[7]!,
    allocation: bytes.toString("hex", 8, 16),
    generation: bytes.toString("hex", 16, 24),
    openId: Number(openId),
  };
}

/** The nonce of a `probe` header. */
export function probeNonce(bytes: Buffer): Buffer {
  return Buffer.from(bytes.subarray(16, 32));
}

export function verifyLegHeader(bytes: Buffer, key: Uint8Array): boolean {
  const expected = createHmac("sha256", createSecretKey(key)).update(bytes.subarray(0, SIGNED_BYTES)).digest();
  return timingSafeEqual(expected, bytes.subarray(SIGNED_BYTES, LEG_HEADER_BYTES));
}

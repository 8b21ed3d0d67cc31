import { createHmac, createSecretKey, timingSafeEqual } from "node:crypto";
import { IsthmusError } from "./codes.ts";
import { PROTOCOL_VERSION } from "./version.ts";

/**
 * What each daemon sends first on a leg, before any record, 48 bytes (behind the leg header where there is one):
 *
 *      0  4  magic "ISTP"
 *      4  1  version
 *      5  1  flags: bit 0 plain; the others are zero
 *      6  1  attempt
 *      7  1  zero
 *      8  8  open id
 *     16 16  salt, fresh for each leg
 *     32 16  first half of HMAC-SHA256 of bytes 0..31; key: the sender's preface key of the generation
 *
 * Sender and receiver have different keys, so a reflected preface is no peer's preface.
 */
export const PREFACE_BYTES = 48;
export const SALT_BYTES = 16;
const MAGIC = Buffer.from("ISTP", "latin1");
const SIGNED_BYTES = 32;
const FLAG_PLAIN = 1;

export interface Preface {
  plain: boolean;
  attempt: number;
  openId: number;
  salt: Buffer;
}

export function encodePreface(preface: Preface, key: Uint8Array): Buffer {
  const bytes = Buffer.alloc(PREFACE_BYTES);
  MAGIC.copy(bytes);
  bytes[4] = PROTOCOL_VERSION;
  bytes[5] = preface.plain ? FLAG_PLAIN : 0;
  bytes[6] = preface.attempt;
  bytes.writeBigUInt64BE(BigInt(preface.openId), 8);
  preface.salt.copy(bytes, 16);
  tag(bytes, key).copy(bytes, SIGNED_BYTES);
  return bytes;
}

/**
 * @param bytes exactly 48 bytes
 * @throws IsthmusError `bad-preface`, `unsupported-version`
 */
export function decodePreface(bytes: Buffer, key: Uint8Array): Preface {
  if (bytes.length !== PREFACE_BYTES || !bytes.subarray(0, 4).equals(MAGIC)) throw new IsthmusError("bad-preface");
  if (bytes[4] !== PROTOCOL_VERSION) throw new IsthmusError("unsupported-version", `preface of version ${bytes[4]}`);
  if (!timingSafeEqual(tag(bytes, key), bytes.subarray(SIGNED_BYTES))) throw new IsthmusError("bad-preface");
  const openId = bytes.readBigUInt64BE(8);
  if ((bytes[5]! & ~FLAG_PLAIN) !== 0 || bytes[7] !== 0 || openId > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new IsthmusError("bad-preface", "a reserved bit is set");
  }
  return {
    plain: (bytes[5]! & FLAG_PLAIN) !== 0,
    attempt: bytes[6]!,
    openId: Number(openId),
    salt: Buffer.from(bytes.subarray(16, 32)),
  };
}

function tag(bytes: Buffer, key: Uint8Array): Buffer {
  return createHmac("sha256", createSecretKey(key)).update(bytes.subarray(0, SIGNED_BYTES)).digest().subarray(0, 16);
}

import { createHash } from "node:crypto";
import { z } from "zod";

/** Base64url without padding of exactly `bytes` bytes, kept as text: keys and ids serve as map keys all over. */
export const base64url = (bytes: number) => {
  const length = Math.ceil((bytes * 4) / 3);
  const spareBits = (length * 6) % 8;
  return z
    .string()
    .length(length)
    .regex(/^[A-Za-z0-9_-]*$/)
    .refine((text) => spareBits === 0 || isCanonical(text), "not canonical base64url")
    .meta({ description: `${bytes} bytes, base64url without padding` });
};

/** Base64url of 1 to `maxBytes` bytes. */
export const base64urlUpTo = (maxBytes: number) =>
  z
    .string()
    .min(2)
    .max(Math.ceil((maxBytes * 4) / 3))
    .regex(/^[A-Za-z0-9_-]*$/)
    .refine(isCanonical, "not canonical base64url")
    .meta({ description: `up to ${maxBytes} bytes, base64url without padding` });

/** One value must have one text, or a map keyed by the text would hold the same key twice. */
function isCanonical(text: string): boolean {
  return Buffer.from(text, "base64url").toString("base64url") === text;
}

/** A 64-bit id as 16 lower-case hexadecimal digits: allocations and generations, also found in binary headers. */
export const hexId = z
  .string()
  .regex(/^[0-9a-f]{16}$/)
  .meta({ description: "64-bit id, 16 lower-case hexadecimal digits" });

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/**
 * What people compare and type for an Ed25519 public key: the first 20 bytes of its SHA-256 as 32 characters of
 * RFC 4648 base32 in lower case.
 */
export function fingerprintOf(publicKey: Uint8Array | string): string {
  const raw = typeof publicKey === "string" ? Buffer.from(publicKey, "base64url") : publicKey;
  const digest = createHash("sha256").update(raw).digest();
  let text = "";
  for (let bit = 0; bit < 160; bit += 5) {
    const word = ((digest[bit >> 3]! << 8) | digest[(bit >> 3) + 1]!) & 0xffff;
    text += BASE32[(word >> (11 - (bit & 7))) & 31];
  }
  return text;
}

export const fingerprint = z
  .string()
  .regex(/^[a-z2-7]{32}$/)
  .meta({ description: "key fingerprint: base32 of the first 20 bytes of SHA-256 of the Ed25519 public key" });

/** SHA-256 of a DER certificate, lower-case hexadecimal, as a `wss` address may pin it. */
export const certificateFingerprint = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .meta({ description: "SHA-256 of the DER certificate, lower-case hexadecimal" });

export const ed25519PublicKey = base64url(32);
export const ed25519Signature = base64url(64);

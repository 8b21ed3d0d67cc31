import { isUint8Array } from "node:util/types";

/** The AEAD ciphers that links may agree on. Which is faster depends on the CPU, see `hasFastAes`. */
export type Suite = "aes-256-gcm" | "chacha20-poly1305";

/** Every suite. The order is that of `enum aead_suite` in c/aead.h. */
export const SUITE_NAMES = ["aes-256-gcm", "chacha20-poly1305"] as const satisfies Suite[];

/** The sizes that all suites have in common. */
export const SUITES = { keyBytes: 32, ivBytes: 12, tagBytes: 16 } as const;

/** @throws TypeError */
export function suiteIndex(suite: Suite): number {
  const index = SUITE_NAMES.indexOf(suite);
  if (index < 0) throw new TypeError(`unknown suite ${String(suite)}`);
  return index;
}

/** @throws TypeError unless `bytes` is a Uint8Array (a Buffer is one) that still has its memory */
export function requireBytes(bytes: Uint8Array, what: string): void {
  if (!isUint8Array(bytes)) throw new TypeError(`${what} is not a Uint8Array`);
  if (bytes.length === 0 && bytes.buffer instanceof ArrayBuffer && bytes.buffer.detached) {
    throw new TypeError(`${what} is detached`);
  }
}

/** @throws TypeError */
export function requireKey(key: Uint8Array, iv: Uint8Array): void {
  requireBytes(key, "key");
  requireBytes(iv, "iv");
  if (key.length !== SUITES.keyBytes) throw new TypeError(`a key has ${SUITES.keyBytes} bytes, not ${key.length}`);
  if (iv.length !== SUITES.ivBytes) throw new TypeError(`an iv has ${SUITES.ivBytes} bytes, not ${iv.length}`);
}

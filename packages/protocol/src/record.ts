import { LIMITS } from "./limits.ts";

/**
 * Sealed records in the shape of TLS 1.3 (RFC 8446 section 5.2), so that a kernel's TLS can take the work over:
 *
 *     0  1  0x17
 *     1  2  0x0303
 *     3  2  length of what follows
 *     5  n  AEAD of (content, content type), tag of 16 bytes; nonce: iv XOR record number; additional data: bytes 0..4
 *
 * A key update is an ordinary record of type handshake; the records behind it use the next secret.
 */
export const RECORD_HEADER_BYTES = 5;
export const RECORD_TAG_BYTES = 16;
/** Bytes that a record adds to its content: header, content type, tag. */
export const RECORD_OVERHEAD_BYTES = RECORD_HEADER_BYTES + 1 + RECORD_TAG_BYTES;
/** The longest record on the wire. Padding is not used. */
export const RECORD_MAX_BYTES = LIMITS.recordPlaintextBytes + RECORD_OVERHEAD_BYTES;

/** The content type, the last byte under the seal. */
export const RECORD_TYPE = {
  /** Two bytes: 1, 0 (close_notify) is the end of the stream in this direction. */
  alert: 21,
  /** One byte says what follows: {@link HANDSHAKE_OPEN} or {@link HANDSHAKE_KEY_UPDATE}. */
  handshake: 22,
  data: 23,
} as const;

export const END_OF_STREAM = Uint8Array.of(1, 0);

/** First record of a direct leg: this byte, then the `open` control message. */
export const HANDSHAKE_OPEN = 0xe0;
/** RFC 8446 section 4.6.3; the body is empty of choices: each direction updates on its own. */
export const KEY_UPDATE = Uint8Array.of(24, 0, 0, 1, 0);

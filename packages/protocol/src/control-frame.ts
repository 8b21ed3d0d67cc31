import { IsthmusError } from "./codes.ts";
import { LIMITS } from "./limits.ts";

/**
 * A control message of a link on its way, over a direct control connection (each frame behind its length as 16 bits), an
 * IST session (behind the 8 bytes of the allocation) or the ISB session (behind the 32 bytes of the peer's key):
 *
 *      0  1  1: sealed
 *      1  8  generation
 *      9  8  counter, from 0, never repeated under a key
 *     17  n  AEAD of the JSON message, tag of 16 bytes; nonce: 4 zero bytes and the counter; additional data: bytes 0..16
 *
 * or, sent back when the generation is not known (a hint, since nothing can seal it): 2, generation.
 */
export const CONTROL_HEADER_BYTES = 17;
export const CONTROL_FRAME_MAX_BYTES = CONTROL_HEADER_BYTES + LIMITS.controlPlaintextBytes + 16;

const SEALED = 1;
const UNKNOWN_GENERATION = 2;

export type ControlFrame =
  | { kind: "sealed"; generation: string; counter: bigint; header: Buffer; ciphertext: Buffer }
  | { kind: "unknown-generation"; generation: string };

export function encodeControlHeader(generation: string, counter: bigint): Buffer {
  const header = Buffer.alloc(CONTROL_HEADER_BYTES);
  header[0] = SEALED;
  header.write(generation, 1, "hex");
  header.writeBigUInt64BE(counter, 9);
  return header;
}

export function encodeUnknownGeneration(generation: string): Buffer {
  const bytes = Buffer.alloc(9);
  bytes[0] = UNKNOWN_GENERATION;
  bytes.write(generation, 1, "hex");
  return bytes;
}

/** @throws IsthmusError `bad-message`, `too-large` */
export function decodeControlFrame(bytes: Buffer): ControlFrame {
  if (bytes.length > CONTROL_FRAME_MAX_BYTES) throw new IsthmusError("too-large", "control frame over the limit");
  const generation = bytes.length >= 9 ? bytes.toString("hex", 1, 9) : "";
  if (bytes[0] === SEALED && bytes.length >= CONTROL_HEADER_BYTES + 16) {
    return {
      kind: "sealed",
      generation,
      counter: bytes.readBigUInt64BE(9),
      header: bytes.subarray(0, CONTROL_HEADER_BYTES),
      ciphertext: bytes.subarray(CONTROL_HEADER_BYTES),
    };
  }
  if (bytes[0] === UNKNOWN_GENERATION && bytes.length === 9) return { kind: "unknown-generation", generation };
  throw new IsthmusError("bad-message", "malformed control frame");
}

/** The address in front of a control frame on a session: who it is for, or from. */
export const ALLOCATION_PREFIX_BYTES = 8;
export const DEVICE_PREFIX_BYTES = 32;

export function addressedFrame(prefix: Uint8Array, frame: Uint8Array): Buffer {
  return Buffer.concat([prefix, frame]);
}

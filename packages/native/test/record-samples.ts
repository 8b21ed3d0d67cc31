import { createCipheriv, createHash } from "node:crypto";
import fc from "fast-check";
import type { AeadEngine } from "../src/aead/engine.ts";
import { EngineRecordOpener, EngineRecordSealer } from "../src/aead/record.ts";
import { SUITE_NAMES, type Suite } from "../src/aead/suite.ts";
import { IV, KEY } from "./engines.ts";

export const DATA = 23;
export const ALERT = 21;
export const HANDSHAKE = 22;

export const withSuites = <T extends object>(rows: T[]) =>
  rows.flatMap((row) => SUITE_NAMES.map((suite) => ({ ...row, suite })));

export const sealer = (engine: AeadEngine, suite: Suite) => new EngineRecordSealer(engine, suite, KEY, IV);
export const opener = (engine: AeadEngine, suite: Suite) => new EngineRecordOpener(engine, suite, KEY, IV);

/** Bytes that repeat nowhere near, so that a piece in the wrong place shows. */
export function pattern(size: number, seed = 0): Buffer {
  return createHash("shake128", { outputLength: Math.max(size, 1) })
    .update(String(seed))
    .digest()
    .subarray(0, size);
}

/** Sizes of content, with those at the edges of a record. */
export const dataBytes = fc.oneof(
  fc.integer({ min: 1, max: 200 }),
  fc.constantFrom(16_383, 16_384, 16_385, 32_768, 32_769),
  fc.integer({ min: 1, max: 70_000 }),
);

export const chunkSizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 70_000 })), {
  minLength: 1,
  maxLength: 8,
});

/** Cuts bytes into chunks of these sizes, in turn; not into too many, since a reader copies what waits. */
export function* cut(bytes: Buffer, sizes: number[]): Generator<Buffer> {
  const least = Math.ceil(bytes.length / 400);
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = Math.max(sizes[i % sizes.length]!, least);
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

/** One record with this plaintext (content and type), made without the code under test. */
export function recordByHand(suite: Suite, number: bigint, plaintext: Uint8Array): Buffer {
  const nonce = Buffer.from(IV);
  nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ number, 4);
  const header = Buffer.from([0x17, 0x03, 0x03, 0, 0]);
  header.writeUInt16BE(plaintext.length + 16, 3);
  const cipher = createCipheriv(suite as "aes-256-gcm", KEY, nonce, { authTagLength: 16 });
  cipher.setAAD(header);
  return Buffer.concat([header, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

import { createCipheriv, createDecipheriv } from "node:crypto";
import { type AeadEngine, OPENED, RECORD_STATUS, type RecordStatus } from "./engine.ts";
import {
  RECORD_HEADER_BYTES,
  RECORD_MAX_CONTENT_BYTES,
  RECORD_OVERHEAD_BYTES,
  RECORD_TAG_BYTES,
  RECORD_TYPE_DATA,
} from "./record.ts";
import { SUITE_NAMES, SUITES } from "./suite.ts";

const FIRST_BYTES = [0x17, 0x03, 0x03] as const;
const BODY_MIN_BYTES = 1 + 1 + RECORD_TAG_BYTES;
const BODY_MAX_BYTES = RECORD_MAX_CONTENT_BYTES + 1 + RECORD_TAG_BYTES;
// As in c/aead-record.c: one call stops here, so that 32-bit words can say what it did.
const RUN_MAX_BYTES = 2 ** 30;

const TAG_LENGTH = { authTagLength: SUITES.tagBytes };

/**
 * One cipher of node:crypto for each message, some 20 microseconds each. Key material is overwritten when it is
 * replaced, but what the garbage collector leaves behind is not cleared.
 */
class NodeKey {
  readonly #suite: "aes-256-gcm";
  readonly #key = new Uint8Array(SUITES.keyBytes);
  readonly #iv = new Uint8Array(SUITES.ivBytes);

  constructor(suite: number) {
    // The types give each cipher a signature of its own; these two are used in the same way.
    this.#suite = SUITE_NAMES[suite] as "aes-256-gcm";
  }

  set(key: Uint8Array, iv: Uint8Array): void {
    this.#key.set(key);
    this.#iv.set(iv);
  }

  /** Writes ciphertext and tag to `out`, which may start with the plaintext. */
  seal(number: bigint, header: Uint8Array, plaintext: Uint8Array, out: Uint8Array): void {
    const cipher = createCipheriv(this.#suite, this.#key, this.#nonce(number), TAG_LENGTH);
    cipher.setAAD(header);
    out.set(cipher.update(plaintext));
    cipher.final();
    out.set(cipher.getAuthTag(), plaintext.length);
  }

  /** @param sealed ciphertext and tag */
  open(number: bigint, header: Uint8Array, sealed: Uint8Array): Buffer | undefined {
    const tagAt = sealed.length - SUITES.tagBytes;
    const decipher = createDecipheriv(this.#suite, this.#key, this.#nonce(number), TAG_LENGTH);
    decipher.setAAD(header);
    decipher.setAuthTag(sealed.subarray(tagAt));
    const plaintext = decipher.update(sealed.subarray(0, tagAt));
    try {
      decipher.final();
      return plaintext;
    } catch {
      plaintext.fill(0);
      return undefined;
    }
  }

  /** The iv XOR the number, right-aligned (RFC 8446 section 5.3). */
  #nonce(number: bigint): Buffer {
    const nonce = Buffer.from(this.#iv);
    const at = nonce.length - 8;
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(at) ^ number, at);
    return nonce;
  }
}

/** The same engine as c/aead.c for hosts where the add-on is not there. */
export class NodeEngine implements AeadEngine {
  readonly opened = new Int32Array(Object.keys(OPENED).length);

  createKey(suite: number, key: Uint8Array, iv: Uint8Array): NodeKey {
    const made = new NodeKey(suite);
    made.set(key, iv);
    return made;
  }

  replaceKey(key: NodeKey, bytes: Uint8Array, iv: Uint8Array): void {
    key.set(bytes, iv);
  }

  sealRecords(key: NodeKey, firstNumber: number, content: Uint8Array, type: number, out: Uint8Array): void {
    let number = BigInt(firstNumber);
    let at = 0;
    for (let from = 0; from < content.length; from += RECORD_MAX_CONTENT_BYTES) {
      const part = content.subarray(from, from + RECORD_MAX_CONTENT_BYTES);
      const record = out.subarray(at, at + part.length + RECORD_OVERHEAD_BYTES);
      const bodyBytes = record.length - RECORD_HEADER_BYTES;
      record.set(FIRST_BYTES);
      record[3] = bodyBytes >> 8;
      record[4] = bodyBytes;
      record.set(part, RECORD_HEADER_BYTES);
      record[RECORD_HEADER_BYTES + part.length] = type;
      const body = record.subarray(RECORD_HEADER_BYTES);
      key.seal(number, record.subarray(0, RECORD_HEADER_BYTES), body.subarray(0, part.length + 1), body);
      number++;
      at += record.length;
    }
  }

  openRecords(key: NodeKey, firstNumber: number, bytes: Uint8Array): number {
    const { opened } = this;
    let number = BigInt(firstNumber);
    let consumed = 0;
    let end = RECORD_HEADER_BYTES;
    opened.fill(0);
    while (consumed < RUN_MAX_BYTES) {
      const record = openRecord(key, number, bytes.subarray(consumed));
      if (number > firstNumber && record.status !== "data") {
        opened[OPENED.badNext] = record.status === "bad" ? 1 : 0;
        break;
      }
      if (record.content === undefined) return RECORD_STATUS.indexOf(record.status);

      bytes.set(record.content, end);
      end += record.content.length;
      consumed += record.content.length + RECORD_OVERHEAD_BYTES;
      opened[OPENED.consumed] = consumed;
      opened[OPENED.records]! += 1;
      opened[OPENED.type] = record.type;
      if (record.status === "other") return RECORD_STATUS.indexOf("other");
      number++;
    }
    return RECORD_STATUS.indexOf("data");
  }

  sealDatagram(key: NodeKey, counter: bigint, header: Uint8Array, payload: Uint8Array, out: Uint8Array): void {
    key.seal(counter, header, payload, out);
  }

  openDatagram(key: NodeKey, counter: bigint, datagram: Uint8Array, headerBytes: number, out: Uint8Array): boolean {
    const payload = key.open(counter, datagram.subarray(0, headerBytes), datagram.subarray(headerBytes));
    if (payload !== undefined) out.set(payload);
    return payload !== undefined;
  }
}

type Opened = { status: RecordStatus; type: number; content?: Uint8Array };

const NEED_MORE: Opened = { status: "need-more", type: 0 };
const BAD: Opened = { status: "bad", type: 0 };

/** The first record of `bytes`, which stay as they are. As much of a header as is there is judged at once. */
function openRecord(key: NodeKey, number: bigint, bytes: Uint8Array): Opened {
  for (const [at, expected] of FIRST_BYTES.entries()) {
    if (bytes.length > at && bytes[at] !== expected) return BAD;
  }
  if (bytes.length < RECORD_HEADER_BYTES) return NEED_MORE;
  const bodyBytes = (bytes[3]! << 8) | bytes[4]!;
  if (bodyBytes < BODY_MIN_BYTES || bodyBytes > BODY_MAX_BYTES) return BAD;
  const recordBytes = RECORD_HEADER_BYTES + bodyBytes;
  if (bytes.length < recordBytes) return NEED_MORE;

  const header = bytes.subarray(0, RECORD_HEADER_BYTES);
  const plaintext = key.open(number, header, bytes.subarray(RECORD_HEADER_BYTES, recordBytes));
  const type = plaintext?.at(-1) ?? 0;
  if (plaintext === undefined || type === 0) return BAD;
  return { status: type === RECORD_TYPE_DATA ? "data" : "other", type, content: plaintext.subarray(0, -1) };
}

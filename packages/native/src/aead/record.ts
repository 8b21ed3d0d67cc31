import { type AeadEngine, type AeadKey, OPENED, RECORD_STATUS } from "./engine.ts";
import { requireBytes, requireKey, type Suite, suiteIndex } from "./suite.ts";

/*
 * Records in the shape of TLS 1.3 (RFC 8446 section 5.2):
 *
 *     0  1  0x17
 *     1  2  0x0303
 *     3  2  length of what follows
 *     5  n  AEAD of (content, content type), tag of 16 bytes; nonce: iv XOR record number; additional data: bytes 0..4
 *
 * Padding is not used, and no record is empty. The format is @isthmus/protocol's; what stands here and in c/aead.h is
 * the same again because neither package may import the other, and the vectors test holds all of them together.
 */
export const RECORD_HEADER_BYTES = 5;
export const RECORD_TAG_BYTES = 16;
/** Bytes that a record adds to its content: header, content type, tag. */
export const RECORD_OVERHEAD_BYTES = RECORD_HEADER_BYTES + 1 + RECORD_TAG_BYTES;
/** The most content of one record (RFC 8446 section 5.1). */
export const RECORD_MAX_CONTENT_BYTES = 16_384;
/** Content type of application data. */
export const RECORD_TYPE_DATA = 23;

export interface RecordSealer {
  /**
   * Seals content as records of at most 16,384 bytes each, all in one buffer that the caller owns. Empty data is no
   * record. Before 2^24 records under one key, `rekey`.
   * @param type content type, 1 to 255
   * @throws TypeError also if a record of another type than data would be empty
   */
  seal(content: Uint8Array, type?: number): Buffer;
  /** The next record is number 0 under the new key. */
  rekey(key: Uint8Array, iv: Uint8Array): void;
  /** Records sealed under the present key. */
  readonly records: number;
}

export interface RecordOpener {
  /**
   * Opens, in place, as many records as `bytes` starts with: a run of data records, or one record of another type.
   * The caller calls again with what was not consumed, which is unchanged, until `need-more`, and then with more bytes
   * behind it.
   */
  open(bytes: Buffer): OpenResult;
  /** The next record is number 0 under the new key. An opener that has met a bad record stays bad. */
  rekey(key: Uint8Array, iv: Uint8Array): void;
  /** Records opened under the present key. */
  readonly records: number;
}

export interface OpenResult {
  /**
   * `data`: content of one or more data records. `other`: one record of another type. `need-more`: no whole record is
   * there. `bad`: a record is forged, cut, empty or no record at all, and the stream is over.
   */
  readonly status: "data" | "other" | "need-more" | "bad";
  /** Bytes of `bytes` that are done with. */
  readonly consumed: number;
  /** The content is `length` bytes of `bytes` from here; it is as long valid as the caller's buffer. */
  readonly offset: number;
  readonly length: number;
  /** Content type of a `data` or `other` record, else 0. */
  readonly type: number;
}

const NEED_MORE: OpenResult = Object.freeze({ status: "need-more", consumed: 0, offset: 0, length: 0, type: 0 });
const BAD: OpenResult = Object.freeze({ status: "bad", consumed: 0, offset: 0, length: 0, type: 0 });

export class EngineRecordSealer implements RecordSealer {
  readonly #engine: AeadEngine;
  readonly #key: AeadKey;
  #records = 0;

  constructor(engine: AeadEngine, suite: Suite, key: Uint8Array, iv: Uint8Array) {
    requireKey(key, iv);
    this.#engine = engine;
    this.#key = engine.createKey(suiteIndex(suite), key, iv);
  }

  get records(): number {
    return this.#records;
  }

  seal(content: Uint8Array, type: number = RECORD_TYPE_DATA): Buffer {
    requireBytes(content, "content");
    if (!Number.isInteger(type) || type < 1 || type > 255) throw new TypeError(`${type} is not a content type`);
    if (content.length === 0 && type !== RECORD_TYPE_DATA) throw new TypeError("a record needs content");
    const records = Math.ceil(content.length / RECORD_MAX_CONTENT_BYTES);
    const sealed = Buffer.allocUnsafe(content.length + records * RECORD_OVERHEAD_BYTES);
    this.#engine.sealRecords(this.#key, this.#records, content, type, sealed);
    this.#records += records;
    return sealed;
  }

  rekey(key: Uint8Array, iv: Uint8Array): void {
    requireKey(key, iv);
    this.#engine.replaceKey(this.#key, key, iv);
    this.#records = 0;
  }
}

export class EngineRecordOpener implements RecordOpener {
  readonly #engine: AeadEngine;
  readonly #key: AeadKey;
  #records = 0;
  #bad: boolean = false;

  constructor(engine: AeadEngine, suite: Suite, key: Uint8Array, iv: Uint8Array) {
    requireKey(key, iv);
    this.#engine = engine;
    this.#key = engine.createKey(suiteIndex(suite), key, iv);
  }

  get records(): number {
    return this.#records;
  }

  open(bytes: Buffer): OpenResult {
    requireBytes(bytes, "bytes");
    if (this.#bad) return BAD;
    const status = RECORD_STATUS[this.#engine.openRecords(this.#key, this.#records, bytes)]!;
    if (status === "need-more") return NEED_MORE;
    if (status === "bad") {
      this.#bad = true;
      return BAD;
    }
    const { opened } = this.#engine;
    const consumed = opened[OPENED.consumed]!;
    const records = opened[OPENED.records]!;
    this.#records += records;
    this.#bad = opened[OPENED.badNext] === 1;
    return {
      status,
      consumed,
      offset: RECORD_HEADER_BYTES,
      length: consumed - records * RECORD_OVERHEAD_BYTES,
      type: opened[OPENED.type]!,
    };
  }

  rekey(key: Uint8Array, iv: Uint8Array): void {
    requireKey(key, iv);
    this.#engine.replaceKey(this.#key, key, iv);
    this.#records = 0;
  }
}

import { align, LITTLE_ENDIAN, viewOf } from "./byte-order.ts";
import { NetlinkFormatError } from "./netlink-error.ts";

const HEADER_BYTES = 4;
const MOST_BYTES = 65_535;
const NESTED = 0x8000;
const TYPE_MASK = 0x3fff;
const FIRST_BYTES = 256;

/** One attribute of a message: its type without flags, and its bytes where they stand. */
export interface RawAttribute {
  readonly type: number;
  readonly payload: Uint8Array;
  /** Where the attribute's header stands in the bytes that were read. */
  readonly offset: number;
}

/** The attributes that stand one behind the other. @throws NetlinkFormatError */
export function* readAttributes(bytes: Uint8Array): Generator<RawAttribute> {
  const view = viewOf(bytes);
  for (let offset = 0; offset < bytes.length; ) {
    // Some families leave a few zero bytes behind the last one.
    if (bytes.length - offset < HEADER_BYTES) return;
    const length = view.getUint16(offset, LITTLE_ENDIAN);
    if (length < HEADER_BYTES || offset + length > bytes.length) {
      throw new NetlinkFormatError(`an attribute of ${length} bytes at ${offset} of ${bytes.length}`);
    }
    const type = view.getUint16(offset + 2, LITTLE_ENDIAN) & TYPE_MASK;
    yield { type, payload: bytes.subarray(offset + HEADER_BYTES, offset + length), offset };
    offset += align(length);
  }
}

/** Puts attributes one behind the other, behind room for headers. */
export class AttributeWriter {
  #bytes = new Uint8Array(FIRST_BYTES);
  #view = viewOf(this.#bytes);
  #length: number;

  /** @param headerBytes kept free at the beginning, zero */
  constructor(headerBytes = 0) {
    this.#length = align(headerBytes);
    this.#reserve(0);
  }

  /** What was written; writing more may move it elsewhere. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** @throws NetlinkFormatError when it is too long for an attribute */
  put(type: number, payload: Uint8Array): void {
    const start = this.#begin(type, payload.length);
    this.#bytes.set(payload, start);
  }

  putU8(type: number, value: number): void {
    const start = this.#begin(type, 1);
    this.#view.setUint8(start, value);
  }

  putU16(type: number, value: number): void {
    const start = this.#begin(type, 2);
    this.#view.setUint16(start, value, LITTLE_ENDIAN);
  }

  putU32(type: number, value: number): void {
    const start = this.#begin(type, 4);
    this.#view.setUint32(start, value, LITTLE_ENDIAN);
  }

  putU64(type: number, value: bigint): void {
    const start = this.#begin(type, 8);
    this.#view.setBigUint64(start, value, LITTLE_ENDIAN);
  }

  /** An attribute that consists of attributes. @throws NetlinkFormatError when it gets too long */
  nest(type: number, write: () => void): void {
    const start = this.#length;
    this.#begin(type | NESTED, 0);
    write();
    const length = this.#length - start;
    if (length > MOST_BYTES) throw new NetlinkFormatError(`a nest of ${length} bytes is too long for an attribute`);
    this.#view.setUint16(start, length, LITTLE_ENDIAN);
  }

  #begin(type: number, payloadBytes: number): number {
    const length = HEADER_BYTES + payloadBytes;
    if (length > MOST_BYTES) throw new NetlinkFormatError(`${payloadBytes} bytes are too long for an attribute`);
    const start = this.#length;
    this.#reserve(align(length));
    this.#view.setUint16(start, length, LITTLE_ENDIAN);
    this.#view.setUint16(start + 2, type, LITTLE_ENDIAN);
    this.#length = start + align(length);
    return start + HEADER_BYTES;
  }

  #reserve(more: number): void {
    const needed = this.#length + more;
    if (needed <= this.#bytes.length) return;
    const bytes = new Uint8Array(2 * needed);
    bytes.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }
}

import { LITTLE_ENDIAN, viewOf } from "../netlink/byte-order.ts";

type Place = readonly [offset: number, size: number];

/** Where the members of a C struct are. Members of members are named by paths: `leg.0.tuple.remote_port`. */
export class Shape {
  readonly #places: ReadonlyMap<string, Place>;
  readonly bytes: number;

  constructor(places: Readonly<Record<string, Place>>) {
    this.#places = new Map(Object.entries(places));
    this.bytes = this.#place("")[1];
  }

  blank(): Buffer {
    return Buffer.alloc(this.bytes);
  }

  /** An unsigned number of up to 4 bytes, or of 8 as far as a number holds it. */
  number(from: Buffer, path: string): number {
    const [offset, size] = this.#place(path);
    if (size === 8) return Number(this.big(from, path));
    return LITTLE_ENDIAN ? from.readUIntLE(offset, size) : from.readUIntBE(offset, size);
  }

  big(from: Buffer, path: string): bigint {
    return viewOf(from).getBigUint64(this.#place(path)[0], LITTLE_ENDIAN);
  }

  /** Reads a number of up to 4 bytes, or of 8 as far as a number holds it: {@link number}, for those who read many. */
  reader(path: string): (from: Buffer) => number {
    const [offset, size] = this.#place(path);
    if (LITTLE_ENDIAN) {
      if (size === 8) return (from) => from.readUInt32LE(offset + 4) * 2 ** 32 + from.readUInt32LE(offset);
      return (from) => from.readUIntLE(offset, size);
    }
    if (size === 8) return (from) => from.readUInt32BE(offset) * 2 ** 32 + from.readUInt32BE(offset + 4);
    return (from) => from.readUIntBE(offset, size);
  }

  /** Where a member begins and ends. */
  span(path: string): readonly [from: number, to: number] {
    const [offset, size] = this.#place(path);
    return [offset, offset + size];
  }

  /** The bytes where they stand. */
  part(from: Buffer, path: string): Buffer {
    const [offset, size] = this.#place(path);
    return from.subarray(offset, offset + size);
  }

  setNumber(to: Buffer, path: string, value: number): void {
    const [offset, size] = this.#place(path);
    if (size === 8) this.setBig(to, path, BigInt(value));
    else if (LITTLE_ENDIAN) to.writeUIntLE(value, offset, size);
    else to.writeUIntBE(value, offset, size);
  }

  setBig(to: Buffer, path: string, value: bigint): void {
    viewOf(to).setBigUint64(this.#place(path)[0], value, LITTLE_ENDIAN);
  }

  /** @throws RangeError unless it is as long as the member */
  setPart(to: Buffer, path: string, bytes: Uint8Array): void {
    const part = this.part(to, path);
    if (part.length !== bytes.length) throw new RangeError(`${path} has ${part.length} bytes, not ${bytes.length}`);
    part.set(bytes);
  }

  #place(path: string): Place {
    const place = this.#places.get(path);
    if (!place) throw new RangeError(`there is no member ${path}`);
    return place;
  }
}

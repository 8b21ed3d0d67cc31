import { endianness } from "node:os";

/** Netlink is spoken in the host's own byte order. */
export const LITTLE_ENDIAN: boolean = endianness() === "LE";

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Messages and attributes begin at multiples of four bytes. */
export function align(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

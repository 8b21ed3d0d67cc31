/** Every way to cut a header short. */
export function* truncations(bytes: Buffer): Generator<Buffer> {
  for (let length = 0; length < bytes.length; length++) yield Buffer.from(bytes.subarray(0, length));
}

/** Every copy of a header that differs in one bit, with the byte it is in. */
export function* bitFlips(bytes: Buffer): Generator<{ flipped: Buffer; byte: number; bit: number }> {
  for (let position = 0; position < bytes.length * 8; position++) {
    const flipped = Buffer.from(bytes);
    const byte = position >> 3;
    const bit = position & 7;
    flipped[byte]! ^= 1 << bit;
    yield { flipped, byte, bit };
  }
}

/** Below this the collector is cheaper. */
const LEAST_BYTES = 4096;

/**
 * Frees the memory of bytes that nobody needs any more, neither this view of it nor any other: they are empty afterwards.
 * For what passes through at a high rate. Left to the collector, some 60 MB of such buffers make it go through the whole
 * heap, several times a second, and each new buffer is memory that the kernel has to clear first.
 *
 * Does nothing where the bytes are few, or a part of something larger as all that comes from Node's pool.
 */
export function freeMemory(bytes: Uint8Array): void {
  if (isWorthFreeing(bytes)) (bytes.buffer as ArrayBuffer).transfer(0);
}

/** Whether {@link freeMemory} does something: for whoever would have to remember to call it. */
export function isWorthFreeing({ buffer, byteLength }: Uint8Array): boolean {
  return byteLength >= LEAST_BYTES && byteLength === buffer.byteLength && buffer instanceof ArrayBuffer;
}

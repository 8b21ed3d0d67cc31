import type { Code } from "@isthmus/protocol";

/** A splice that counts its bytes itself. */
interface Counted {
  readonly bytes: number;
}

/** Counters of whoever has splices made: the cells of a driver, the stream endpoint. */
export class SpliceTally {
  /** Splices of now. */
  splices = 0;
  /** Those of them that carry datagrams. */
  udpSplices = 0;
  readonly closed: Partial<Record<Code, number>> = {};
  readonly #counted = new Set<Counted>();
  #bytes = 0;

  /** Bytes that passed. */
  get bytes(): number {
    let bytes = this.#bytes;
    for (const counted of this.#counted) bytes += counted.bytes;
    return bytes;
  }

  countBytes(bytes: number): void {
    this.#bytes += bytes;
  }

  countClosed(code: Code): void {
    this.closed[code] = (this.closed[code] ?? 0) + 1;
  }

  /** A splice that counts its bytes itself has begun, */
  enter(counted: Counted): void {
    this.splices++;
    this.#counted.add(counted);
  }

  /** and has ended. */
  leave(counted: Counted): void {
    this.splices--;
    this.#counted.delete(counted);
    this.#bytes += counted.bytes;
  }
}

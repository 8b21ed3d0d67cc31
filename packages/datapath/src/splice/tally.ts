import type { Code } from "@isthmus/protocol";

/** Counters of whoever has splices made: the cells of a driver, the stream endpoint. */
export class SpliceTally {
  /** Splices of now. */
  splices = 0;
  /** Those of them that carry datagrams. */
  udpSplices = 0;
  bytes = 0;
  readonly closed: Partial<Record<Code, number>> = {};

  countClosed(code: Code): void {
    this.closed[code] = (this.closed[code] ?? 0) + 1;
  }
}

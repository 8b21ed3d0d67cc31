import { LIMITS } from "@isthmus/protocol";

/**
 * What an application sent before the peer's preface was there: kept, so that a further attempt can send it again from
 * the start on another leg. When it is full the application is not read from until the leg is proved.
 */
export class UnprovedBytes {
  #chunks: Buffer[] | undefined = [];
  #bytes = 0;

  get full(): boolean {
    return this.#chunks !== undefined && this.#bytes >= LIMITS.unprovedBytes;
  }

  /** Keeps a copy of the reference: the caller must not write into the chunk again. */
  keep(chunk: Buffer): void {
    this.#chunks?.push(chunk);
    this.#bytes += chunk.length;
  }

  /** All that was sent so far, for a new leg. */
  all(): readonly Buffer[] {
    return this.#chunks ?? [];
  }

  /** The leg is proved: nothing will be sent twice. */
  release(): void {
    this.#chunks = undefined;
    this.#bytes = 0;
  }
}

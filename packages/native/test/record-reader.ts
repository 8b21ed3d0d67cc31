import type { OpenResult, RecordOpener } from "../src/aead/index.ts";

/** What a stream carried: data with nothing of another type between is one piece, however it was cut. */
export type Piece = { type: number; content: Buffer };

export function addPiece(pieces: Piece[], type: number, content: Buffer): void {
  const last = pieces.at(-1);
  if (type === 23 && last?.type === 23) last.content = Buffer.concat([last.content, content]);
  else pieces.push({ type, content });
}

/** Reads a stream as a leg does: keeps what was not consumed, and opens until more is needed. */
export class RecordReader {
  readonly pieces: Piece[] = [];
  bad = false;
  readonly #opener: RecordOpener;
  readonly #onOther: (result: OpenResult) => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(opener: RecordOpener, onOther: (result: OpenResult) => void = () => {}) {
    this.#opener = opener;
    this.#onOther = onOther;
  }

  push(chunk: Uint8Array): void {
    let bytes = Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const result = this.#opener.open(bytes);
      if (result.status === "need-more" || result.status === "bad") {
        this.bad = result.status === "bad";
        break;
      }
      const content = Buffer.from(bytes.subarray(result.offset, result.offset + result.length));
      addPiece(this.pieces, result.type, content);
      if (result.status === "other") this.#onOther(result);
      bytes = bytes.subarray(result.consumed);
    }
    this.#rest = bytes;
  }

  /** Bytes that no record has used yet. */
  get waiting(): number {
    return this.#rest.length;
  }
}

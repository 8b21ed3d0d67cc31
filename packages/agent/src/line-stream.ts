import type { ServerResponse } from "node:http";

/** Unsent bytes above which a reader is behind: what is there at the beginning alone may be more than that. */
const BEHIND_BYTES = 1024 * 1024;
/** A reader that is still behind after this has stopped reading, and is cut off. */
const CATCH_UP_MS = 10_000;
/** Unsent bytes above which a reader is cut off at once. */
const MOST_UNSENT_BYTES = 64 * 1024 * 1024;

/** An HTTP answer of one line after the other, to a reader that may be slow but must not stop. */
export class LineStream {
  readonly #response: ServerResponse;
  #catchUp: NodeJS.Timeout | undefined;

  /** Sends the head; the answer stays open. */
  constructor(response: ServerResponse) {
    this.#response = response;
    response.writeHead(200, { "content-type": "application/x-ndjson" });
    response.flushHeaders();
    response.once("close", () => clearTimeout(this.#catchUp));
    response.on("drain", () => {
      clearTimeout(this.#catchUp);
      this.#catchUp = undefined;
    });
  }

  readonly write = (line: string): void => {
    const response = this.#response;
    if (response.destroyed) return;
    response.write(`${line}\n`);
    const unsent = response.writableLength;
    if (unsent > MOST_UNSENT_BYTES) response.destroy();
    else if (unsent > BEHIND_BYTES) this.#catchUp ??= setTimeout(() => response.destroy(), CATCH_UP_MS);
  };
}

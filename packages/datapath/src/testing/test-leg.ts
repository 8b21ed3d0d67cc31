import type { Socket } from "node:net";

/** How a leg's incoming direction ended. */
export type LegEnd = "end" | "reset";

/** A TCP connection as a test holds it: what arrived, and how it ended. */
export class TestLeg {
  readonly socket: Socket;
  readonly #chunks: Buffer[] = [];
  #length = 0;
  #onChange = Promise.withResolvers<void>();
  /** What was seen first. */
  ended: LegEnd | undefined;

  /** @param socket with `allowHalfOpen`; it may still be connecting */
  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#length += chunk.length;
      this.#changed();
    });
    socket.on("end", () => this.#end("end"));
    socket.on("error", () => this.#end("reset"));
    socket.on("close", () => this.#end("reset"));
  }

  get received(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  get length(): number {
    return this.#length;
  }

  write(bytes: Uint8Array | string): void {
    this.socket.write(bytes);
  }

  /** FIN, behind what was written. */
  end(): void {
    this.socket.end();
  }

  /** RST. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  /** Resolves when so many bytes have arrived. @throws when the leg ended before */
  async bytes(count: number): Promise<Buffer> {
    while (this.#length < count) {
      if (this.ended) throw new Error(`the leg saw ${this.ended} after ${this.#length} of ${count} bytes`);
      await this.#onChange.promise;
    }
    return this.received;
  }

  /** Resolves when the incoming direction has ended. */
  async whenEnded(): Promise<LegEnd> {
    while (this.ended === undefined) await this.#onChange.promise;
    return this.ended;
  }

  #end(how: LegEnd): void {
    this.ended ??= how;
    this.#changed();
  }

  #changed(): void {
    this.#onChange.resolve();
    this.#onChange = Promise.withResolvers();
  }
}

/** Both ends of a splice say something, and each hears the other. */
export async function talk([a, b]: readonly [TestLeg, TestLeg], text: string): Promise<void> {
  const before = [a.length, b.length] as const;
  a.write(text);
  b.write(text);
  await a.bytes(before[0] + text.length);
  await b.bytes(before[1] + text.length);
}

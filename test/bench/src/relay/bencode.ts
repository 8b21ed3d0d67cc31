/** What the control protocol of rtpengine says: BitTorrent's encoding, of which it needs no numbers. */
export type Bencoded = string | readonly Bencoded[] | { readonly [key: string]: Bencoded };

export function bencode(value: Bencoded): string {
  if (typeof value === "string") return `${Buffer.byteLength(value)}:${value}`;
  if (isList(value)) return `l${value.map(bencode).join("")}e`;
  return `d${Object.entries(value).flat().map(bencode).join("")}e`;
}

function isList(value: Bencoded): value is readonly Bencoded[] {
  return Array.isArray(value);
}

/** The texts of a dictionary; what else is in it is passed over. @throws Error when it is none */
export function decodeTexts(bytes: Buffer): Map<string, string> {
  const reader = new Reader(bytes);
  const texts = new Map<string, string>();
  if (reader.take() !== "d") throw new Error(`no dictionary: ${bytes}`);
  while (reader.next !== "e") {
    const key = reader.text();
    if (isDigit(reader.next)) texts.set(key, reader.text());
    else reader.skip();
  }
  return texts;
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get next(): string {
    if (this.#at >= this.#bytes.length) throw new Error(`cut off: ${this.#bytes}`);
    return String.fromCharCode(this.#bytes[this.#at]!);
  }

  take(): string {
    const { next } = this;
    this.#at++;
    return next;
  }

  text(): string {
    const start = this.#at;
    this.#passUntil(":");
    const length = Number(this.#bytes.subarray(start, this.#at - 1).toString());
    const end = this.#at + length;
    if (!(end <= this.#bytes.length)) throw new Error(`no text at byte ${start}: ${this.#bytes}`);
    const text = this.#bytes.subarray(this.#at, end).toString();
    this.#at = end;
    return text;
  }

  skip(): void {
    if (isDigit(this.next)) this.text();
    else if (this.take() === "i") this.#passUntil("e");
    else {
      while (this.next !== "e") this.skip();
      this.take();
    }
  }

  #passUntil(sign: string): void {
    while (this.take() !== sign);
  }
}

function isDigit(sign: string): boolean {
  return sign >= "0" && sign <= "9";
}

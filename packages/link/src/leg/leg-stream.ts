import { randomBytes } from "node:crypto";
import { createRecordOpener, createRecordSealer, type RecordOpener, type RecordSealer } from "@isthmus/native";
import type { LegRecords } from "@isthmus/native/pump";
import {
  decodeLinkControl,
  decodePreface,
  END_OF_STREAM,
  encodeLinkControl,
  encodePreface,
  HANDSHAKE_OPEN,
  IsthmusError,
  KEY_UPDATE,
  LIMITS,
  type LinkControlMessage,
  PREFACE_BYTES,
  RECORD_HEADER_BYTES,
  RECORD_MAX_BYTES,
  RECORD_OVERHEAD_BYTES,
  RECORD_TYPE,
  SALT_BYTES,
} from "@isthmus/protocol";
import { freeMemory, isWorthFreeing } from "@isthmus/service";
import { type Generation, nextSecret, recordKeys } from "../keys/generation.ts";

/** Room for a record, or for its header alone, of which the first `bytes` are there. */
interface CutRecord {
  record: Buffer;
  bytes: number;
}

/** Memory with several users: it is freed when the last of them has spent its part. */
class SharedMemory {
  readonly #bytes: Buffer;
  #users = 1;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** One more user. @returns {@link spent}, for it to call */
  use(): () => void {
    this.#users++;
    return this.spent;
  }

  readonly spent = (): void => {
    if (--this.#users === 0) freeMemory(this.#bytes);
  };
}

function share(bytes: Buffer): SharedMemory | undefined {
  return isWorthFreeing(bytes) ? new SharedMemory(bytes) : undefined;
}

/**
 * What the bytes of a leg turned out to be. `data` may share memory with the chunk that was given: `spent`, where there
 * is one, is to be called when it is not needed any more. Without that call the collector does the same some time later.
 */
export type LegEvent =
  | { is: "preface" }
  | { is: "open"; message: Extract<LinkControlMessage, { t: "open" }> }
  | { is: "data"; data: Buffer; spent: (() => void) | undefined }
  | { is: "end" };

/** A sealed leg with which someone else goes on. */
export interface HandedLeg extends LegRecords {
  /** The beginning of a record of which more must come. */
  cut: Buffer;
}

export interface LegStreamOptions {
  generation: Generation;
  openId: number;
  attempt: number;
  /** Both sides consented to clear bytes. */
  plain: boolean;
  /** Records of this side under one key; less than the default in tests alone. */
  recordsPerKey?: number;
}

/**
 * One leg of an open between the two daemons, without the socket: bytes of the application go in and bytes for the leg
 * come out, and back. First each side's preface, then sealed records, at last a sealed end (or clear bytes and nothing,
 * where plain). Keys depend on the sender's salt alone, so that data can follow the preface at once.
 */
export class LegStream {
  readonly #generation: Generation;
  readonly #openId: number;
  readonly #attempt: number;
  readonly plain: boolean;
  readonly #recordsPerKey: number;
  #sendSecret: Buffer | undefined;
  #sealer: RecordSealer | undefined;
  #receiveSecret: Buffer | undefined;
  #opener: RecordOpener | undefined;
  #prefaced = false;
  #ended = false;
  /** Bytes of a preface of which more must come. */
  #early: Buffer | undefined;
  /** A record of which more must come; at most one. */
  #cut: CutRecord | undefined;

  constructor(options: LegStreamOptions) {
    this.#generation = options.generation;
    this.#openId = options.openId;
    this.#attempt = options.attempt;
    this.plain = options.plain;
    this.#recordsPerKey = options.recordsPerKey ?? LIMITS.recordsPerKey;
  }

  /** The first bytes of this side. To be called once, before anything else is sent. */
  preface(): Buffer {
    const salt = randomBytes(SALT_BYTES);
    if (!this.plain) {
      this.#sendSecret = this.#generation.send.leg(this.#openId, this.#attempt, salt);
      const { key, iv } = recordKeys(this.#sendSecret);
      this.#sealer = createRecordSealer(this.#generation.suite, key, iv);
    }
    return encodePreface(
      { plain: this.plain, attempt: this.#attempt, openId: this.#openId, salt },
      this.#generation.send.preface,
    );
  }

  /** The first record of a direct leg, on which no control message went ahead. Sealed legs only. */
  open(message: Extract<LinkControlMessage, { t: "open" }>): Buffer {
    return this.#sealer!.seal(
      Buffer.concat([Uint8Array.of(HANDSHAKE_OPEN), encodeLinkControl(message)]),
      RECORD_TYPE.handshake,
    );
  }

  /** Application bytes for the leg. */
  seal(chunk: Buffer): Buffer {
    if (this.plain) return chunk;
    if (!this.#sealer) throw new IsthmusError("internal", "application bytes before the preface");
    const records = this.#sealer.seal(chunk);
    if (this.#sealer.records < this.#recordsPerKey) return records;
    const update = this.#sealer.seal(KEY_UPDATE, RECORD_TYPE.handshake);
    this.#sendSecret = nextSecret(this.#sendSecret!);
    const { key, iv } = recordKeys(this.#sendSecret);
    this.#sealer.rekey(key, iv);
    return Buffer.concat([records, update]);
  }

  /** This direction's end. Where plain the leg's own end of stream is all there is. */
  end(): Buffer | undefined {
    return this.#sealer?.seal(END_OF_STREAM, RECORD_TYPE.alert);
  }

  /** Whether the peer's sealed end came; any other end of the leg is a reset. */
  get ended(): boolean {
    return this.#ended;
  }

  get prefaced(): boolean {
    return this.#prefaced;
  }

  /**
   * For someone else to go on with, who calls {@link handedOver} then; otherwise nothing has changed. Nothing where plain, or
   * while a preface is missing.
   */
  handOver(): HandedLeg | undefined {
    if (!this.#sealer || !this.#opener) return undefined;
    return {
      suite: this.#generation.suite,
      recordsPerKey: this.#recordsPerKey,
      send: { secret: this.#sendSecret!, records: this.#sealer.records },
      receive: { secret: this.#receiveSecret!, records: this.#opener.records },
      cut: this.#cut ? this.#cut.record.subarray(0, this.#cut.bytes) : Buffer.alloc(0),
    };
  }

  /** Nothing more passes here: the present secrets are wiped. */
  handedOver(): void {
    this.#sendSecret?.fill(0);
    this.#receiveSecret?.fill(0);
    this.#sealer = undefined;
    this.#opener = undefined;
    this.#cut = undefined;
  }

  /**
   * Takes bytes of the leg. The chunk is overwritten: it belongs to this object from now on.
   * @param take called for each event in order
   * @throws IsthmusError `bad-preface`, `bad-record`, `unsupported-version`: the leg must be reset
   */
  receive(chunk: Buffer, take: (event: LegEvent) => void): void {
    let bytes = chunk;
    if (!this.#prefaced) {
      if (this.#early) bytes = Buffer.concat([this.#early, chunk]);
      this.#early = undefined;
      if (bytes.length < PREFACE_BYTES) {
        this.#early = Buffer.from(bytes);
        return;
      }
      this.#readPreface(bytes.subarray(0, PREFACE_BYTES));
      bytes = bytes.subarray(PREFACE_BYTES);
      take({ is: "preface" });
    }
    if (bytes.length === 0) return;
    const memory = share(chunk);
    if (this.plain) take({ is: "data", data: bytes, spent: memory?.use() });
    else this.#readRecords(bytes, memory, take);
    memory?.spent();
  }

  #readPreface(bytes: Buffer): void {
    const preface = decodePreface(bytes, this.#generation.receive.preface);
    if (preface.openId !== this.#openId || preface.attempt !== this.#attempt) {
      throw new IsthmusError("bad-preface", "the leg belongs to another open");
    }
    if (preface.plain !== this.plain) throw new IsthmusError("plain-refused");
    this.#prefaced = true;
    if (this.plain) return;
    this.#receiveSecret = this.#generation.receive.leg(this.#openId, this.#attempt, preface.salt);
    const { key, iv } = recordKeys(this.#receiveSecret);
    this.#opener = createRecordOpener(this.#generation.suite, key, iv);
  }

  #readRecords(chunk: Buffer, memory: SharedMemory | undefined, take: (event: LegEvent) => void): void {
    let bytes = chunk;
    while (bytes.length > 0) {
      if (this.#cut) {
        bytes = this.#continueCut(this.#cut, bytes, take);
        continue;
      }
      const result = this.#opener!.open(bytes);
      if (result.status === "need-more") {
        this.#cut = cutRecord(bytes);
        return;
      }
      this.#takeRecords(result.status, bytes, result, memory, take);
      bytes = bytes.subarray(result.consumed);
    }
  }

  /** Adds to a cut record only what it lacks, so that a whole chunk is never copied. @returns the bytes behind it */
  #continueCut(cut: CutRecord, bytes: Buffer, take: (event: LegEvent) => void): Buffer {
    const { record } = cut;
    const part = bytes.subarray(0, record.length - cut.bytes);
    record.set(part, cut.bytes);
    cut.bytes += part.length;
    if (cut.bytes === record.length) {
      const isHeader = record.length === RECORD_HEADER_BYTES;
      this.#cut = isHeader ? cutRecord(record) : undefined;
      if (!isHeader) this.#takeCut(record, take);
    }
    return bytes.subarray(part.length);
  }

  #takeCut(record: Buffer, take: (event: LegEvent) => void): void {
    const result = this.#opener!.open(record);
    if (result.status === "need-more") throw new IsthmusError("bad-record");
    const memory = share(record);
    this.#takeRecords(result.status, record, result, memory, take);
    memory?.spent();
  }

  #takeRecords(
    status: "data" | "other" | "bad",
    bytes: Buffer,
    { offset, length, type }: { offset: number; length: number; type: number },
    memory: SharedMemory | undefined,
    take: (event: LegEvent) => void,
  ): void {
    if (status === "bad" || this.#ended) throw new IsthmusError("bad-record");
    const content = bytes.subarray(offset, offset + length);
    if (status === "data") take({ is: "data", data: content, spent: memory?.use() });
    else if (type === RECORD_TYPE.alert && content.equals(END_OF_STREAM)) {
      this.#ended = true;
      take({ is: "end" });
    } else if (type === RECORD_TYPE.handshake && content.equals(KEY_UPDATE)) {
      this.#receiveSecret = nextSecret(this.#receiveSecret!);
      const { key, iv } = recordKeys(this.#receiveSecret);
      this.#opener!.rekey(key, iv);
    } else if (type === RECORD_TYPE.handshake && content[0] === HANDSHAKE_OPEN) {
      const message = decodeLinkControl(content.subarray(1));
      if (message?.t !== "open") throw new IsthmusError("bad-record", "the first record is no open");
      take({ is: "open", message });
    } else throw new IsthmusError("bad-record", `unexpected record of type ${type}`);
  }
}

/**
 * Keeps the beginning of a record. While its header is not whole that is all there is room for.
 * @throws IsthmusError `bad-record`
 */
function cutRecord(beginning: Buffer): CutRecord {
  const isHeaderWhole = beginning.length >= RECORD_HEADER_BYTES;
  const length = RECORD_HEADER_BYTES + (isHeaderWhole ? beginning.readUInt16BE(3) : 0);
  if (isHeaderWhole && (length <= RECORD_OVERHEAD_BYTES || length > RECORD_MAX_BYTES)) {
    throw new IsthmusError("bad-record");
  }
  const record = Buffer.allocUnsafeSlow(length);
  record.set(beginning);
  return { record, bytes: beginning.length };
}

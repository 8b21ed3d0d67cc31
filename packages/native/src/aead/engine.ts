/** The key of one direction. Only the engine that made it can look inside. */
export type AeadKey = object;

/** What `openRecords` answers. The order is that of `enum record_status` in c/aead.h. */
export const RECORD_STATUS = ["data", "other", "need-more", "bad"] as const;
export type RecordStatus = (typeof RECORD_STATUS)[number];

/** The words of {@link AeadEngine.opened}: `struct record_run` in c/aead.h. */
export const OPENED = {
  /** Bytes of the records that were opened. */
  consumed: 0,
  records: 1,
  /** Content type of all of them. */
  type: 2,
  /** 1: the record behind them is bad, and its bytes are lost. */
  badNext: 3,
} as const;

/**
 * The work itself, without any memory of a stream: done in C (c/aead.c is one of these) or with node:crypto, and the
 * same bytes come out. Record numbers and what a bad record means for a stream are the caller's, in record.ts.
 * The caller has checked its arguments; an engine throws TypeError rather than touch memory it should not.
 */
export interface AeadEngine {
  /** @param suite index in SUITE_NAMES */
  createKey(suite: number, key: Uint8Array, iv: Uint8Array): AeadKey;
  /** Replaces and forgets the key material. */
  replaceKey(key: AeadKey, bytes: Uint8Array, iv: Uint8Array): void;

  /** Fills `out`, exactly as long as the records. */
  sealRecords(key: AeadKey, firstNumber: number, content: Uint8Array, type: number, out: Uint8Array): void;

  /**
   * Opens in place a run of data records, or one record of another type, and moves the contents together behind the
   * first record's header. Bytes that are not consumed stay as they are.
   * @returns index in RECORD_STATUS; if that is data or other, `opened` says the rest
   */
  openRecords(key: AeadKey, firstNumber: number, bytes: Uint8Array): number;
  /** Overwritten by each `openRecords`. A memory of its own is cheaper than an object made in C. */
  readonly opened: Int32Array;

  /** Fills `out`, payload and tag. The nonce is the key's iv XOR `counter`. */
  sealDatagram(key: AeadKey, counter: bigint, header: Uint8Array, payload: Uint8Array, out: Uint8Array): void;

  /** Fills `out` with the payload; false if the datagram is forged. */
  openDatagram(key: AeadKey, counter: bigint, datagram: Uint8Array, headerBytes: number, out: Uint8Array): boolean;
}

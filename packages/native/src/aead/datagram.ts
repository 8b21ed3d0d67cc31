import type { AeadEngine, AeadKey } from "./engine.ts";
import { requireBytes, requireKey, SUITES, type Suite, suiteIndex } from "./suite.ts";

/*
 * Single messages that carry their number: datagrams of a link and control frames. The nonce is 4 zero bytes and the
 * counter, big endian: the rule of records with an iv of zeros.
 */
const ZERO_IV = new Uint8Array(SUITES.ivBytes);

export interface DatagramSealer {
  /**
   * @param header additional data, copied in front
   * @param counter 64 bits, never used twice under one key
   * @returns header, ciphertext, tag; the caller owns it
   */
  seal(header: Uint8Array, counter: bigint, payload: Uint8Array): Buffer;
}

export interface DatagramOpener {
  /**
   * @param headerBytes how many bytes of the datagram are additional data
   * @returns the payload, in memory of its own, or `undefined` if the datagram is forged or too short
   */
  open(datagram: Uint8Array, headerBytes: number, counter: bigint): Buffer | undefined;
}

export class EngineDatagramSealer implements DatagramSealer {
  readonly #engine: AeadEngine;
  readonly #key: AeadKey;

  constructor(engine: AeadEngine, suite: Suite, key: Uint8Array) {
    requireKey(key, ZERO_IV);
    this.#engine = engine;
    this.#key = engine.createKey(suiteIndex(suite), key, ZERO_IV);
  }

  seal(header: Uint8Array, counter: bigint, payload: Uint8Array): Buffer {
    requireBytes(header, "header");
    requireBytes(payload, "payload");
    requireCounter(counter);
    const datagram = Buffer.allocUnsafe(header.length + payload.length + SUITES.tagBytes);
    datagram.set(header);
    this.#engine.sealDatagram(this.#key, counter, header, payload, datagram.subarray(header.length));
    return datagram;
  }
}

export class EngineDatagramOpener implements DatagramOpener {
  readonly #engine: AeadEngine;
  readonly #key: AeadKey;

  constructor(engine: AeadEngine, suite: Suite, key: Uint8Array) {
    requireKey(key, ZERO_IV);
    this.#engine = engine;
    this.#key = engine.createKey(suiteIndex(suite), key, ZERO_IV);
  }

  open(datagram: Uint8Array, headerBytes: number, counter: bigint): Buffer | undefined {
    requireBytes(datagram, "datagram");
    requireCounter(counter);
    if (!Number.isInteger(headerBytes) || headerBytes < 0) throw new TypeError(`${headerBytes} is no number of bytes`);
    const payloadBytes = datagram.length - headerBytes - SUITES.tagBytes;
    if (payloadBytes < 0) return undefined;
    const payload = Buffer.allocUnsafe(payloadBytes);
    return this.#engine.openDatagram(this.#key, counter, datagram, headerBytes, payload) ? payload : undefined;
  }
}

function requireCounter(counter: bigint): void {
  if (typeof counter !== "bigint" || BigInt.asUintN(64, counter) !== counter) {
    throw new TypeError(`${String(counter)} is not a counter of 64 bits`);
  }
}

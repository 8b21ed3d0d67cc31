import { loaded } from "../addon.ts";
import { type DatagramOpener, type DatagramSealer, EngineDatagramOpener, EngineDatagramSealer } from "./datagram.ts";
import type { AeadEngine } from "./engine.ts";
import { NodeEngine } from "./node-engine.ts";
import { EngineRecordOpener, EngineRecordSealer, type RecordOpener, type RecordSealer } from "./record.ts";
import type { Suite } from "./suite.ts";

export { hasFastAes } from "./cpu.ts";
export type { DatagramOpener, DatagramSealer } from "./datagram.ts";
export {
  type OpenResult,
  RECORD_HEADER_BYTES,
  RECORD_MAX_CONTENT_BYTES,
  RECORD_OVERHEAD_BYTES,
  RECORD_TAG_BYTES,
  RECORD_TYPE_DATA,
  type RecordOpener,
  type RecordSealer,
} from "./record.ts";
export { SUITES, type Suite } from "./suite.ts";

const engine: AeadEngine = "addon" in loaded ? loaded.addon.aead : new NodeEngine();

/** What does the work in this process. Both give the same bytes. */
export const implementation: "native" | "node:crypto" = "addon" in loaded ? "native" : "node:crypto";
/** Why it is not the native one; one line, for the log. */
export const implementationDetail: string = "addon" in loaded ? "the add-on is loaded" : loaded.reason;

/**
 * Seals the stream of one direction of a leg.
 * @throws TypeError wrong suite or length of key or iv
 */
export function createRecordSealer(suite: Suite, key: Uint8Array, iv: Uint8Array): RecordSealer {
  return new EngineRecordSealer(engine, suite, key, iv);
}

/**
 * Opens the stream of one direction of a leg.
 * @throws TypeError wrong suite or length of key or iv
 */
export function createRecordOpener(suite: Suite, key: Uint8Array, iv: Uint8Array): RecordOpener {
  return new EngineRecordOpener(engine, suite, key, iv);
}

/**
 * Seals the datagrams, or control frames, of one direction.
 * @throws TypeError wrong suite or length of the key
 */
export function createDatagramSealer(suite: Suite, key: Uint8Array): DatagramSealer {
  return new EngineDatagramSealer(engine, suite, key);
}

/**
 * Opens the datagrams, or control frames, of one direction.
 * @throws TypeError wrong suite or length of the key
 */
export function createDatagramOpener(suite: Suite, key: Uint8Array): DatagramOpener {
  return new EngineDatagramOpener(engine, suite, key);
}

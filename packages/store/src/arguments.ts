import { IsthmusError } from "@isthmus/protocol";
import type { ScanOptions } from "./store.ts";

const KEY_BYTES = 512;
const VALUE_BYTES = 64 * 1024;
const PAGE = { usual: 100, most: 1000 };

// Printable ASCII without the space, so that one byte is one character, JavaScript's order of strings is byte order,
// and " " and DEL are a lower and an upper bound of whatever may follow a prefix.
const TEXT = /^[!-~]*$/;
const BELOW_ALL = " ";
const ABOVE_ALL = "\x7f";

export function checkKey(key: string): void {
  if (key.length === 0) throw new IsthmusError("bad-request", "a key has at least one character");
  checkPrefix(key);
}

export function checkPrefix(prefix: string): void {
  if (prefix.length > KEY_BYTES) {
    throw new IsthmusError("bad-request", `a key has at most ${KEY_BYTES} characters, not ${prefix.length}`);
  }
  if (!TEXT.test(prefix)) {
    throw new IsthmusError("bad-request", `a key is printable ASCII without spaces, not ${JSON.stringify(prefix)}`);
  }
}

export function checkExpected(expected: number, value: unknown): void {
  if (!Number.isSafeInteger(expected) || expected < 0) {
    throw new IsthmusError("bad-request", `a version is a whole number of at least 0, not ${expected}`);
  }
  if (expected === 0 && value === undefined) {
    throw new IsthmusError("bad-request", "a record that must not exist cannot be deleted");
  }
}

/** The value as JSON, taken at once: what the caller changes in it later is not stored. `undefined` stays so. */
export function encodeValue(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  let json: string | undefined;
  try {
    json = JSON.stringify(value);
  } catch (cause) {
    throw new IsthmusError("bad-request", "the value cannot be written as JSON", { cause });
  }
  if (json === undefined) throw new IsthmusError("bad-request", `a ${typeof value} cannot be written as JSON`);
  const bytes = Buffer.byteLength(json);
  if (bytes > VALUE_BYTES) {
    throw new IsthmusError("too-large", `the value has ${bytes} bytes as JSON, the limit is ${VALUE_BYTES}`);
  }
  return json;
}

export interface KeyRange {
  /** Inclusive. */
  from: string;
  /** Exclusive. */
  to: string;
  limit: number;
}

/** The keys that a scan asks for, as one range: with two lower bounds a store might read all that lies between them. */
export function keyRange(prefix: string, options: ScanOptions): KeyRange {
  checkPrefix(prefix);
  const { after, limit = PAGE.usual } = options;
  if (!Number.isInteger(limit) || limit < 1 || limit > PAGE.most) {
    throw new IsthmusError("bad-request", `a page has 1 to ${PAGE.most} records, not ${limit}`);
  }
  if (after !== undefined) checkPrefix(after);
  const from = after !== undefined && after >= prefix ? after + BELOW_ALL : prefix;
  return { from, to: prefix + ABOVE_ALL, limit };
}

/**
 * What programs say at natbinder's Unix socket (SOCK_SEQPACKET), one message each, in the byte order of the host, with
 * sockets along (SCM_RIGHTS) as proof of what they hold. apps/natbinder/c/ask.h is the other half.
 */
import { endianness } from "node:os";

const VERSION = 1;
const LITTLE_ENDIAN = endianness() === "LE";
const REQUEST_BYTES = 28;
const REPLY_BYTES = 8;
const PROGRAM_AT = 12;

const WHAT = { 1: "bind", 2: "release", 3: "cover" } as const;
const ANSWERS = { ignored: 0, succeeded: 1, failed: 2 } as const;

export interface AskRequest {
  /**
   * `bind`: the first socket along holds a port, the second (where there are two) is to have it. `release`: the socket
   * along was to have a port, and has none. `cover`: whether natbinder sees the binds of this process by itself, so that it
   * need not ask; no socket comes along, and `succeeded` is yes.
   */
  what: (typeof WHAT)[keyof typeof WHAT];
  /** Comes back in the answer. */
  number: number;
  /** Of the program, as it says. */
  pid: number;
  /** Its name as the kernel has it, as it says. */
  program: string;
}

export type AskAnswer = keyof typeof ANSWERS;

/** Undefined for what is no request. */
export function readAskRequest(bytes: Uint8Array): AskRequest | undefined {
  if (bytes.length !== REQUEST_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const what = (WHAT as Partial<Record<number, AskRequest["what"]>>)[view.getUint8(1)];
  if (view.getUint8(0) !== VERSION || what === undefined) return undefined;
  return {
    what,
    number: view.getUint32(4, LITTLE_ENDIAN),
    pid: view.getUint32(8, LITTLE_ENDIAN),
    program: programName(bytes.subarray(PROGRAM_AT)),
  };
}

export function writeAskReply(number: number, answer: AskAnswer): Uint8Array {
  const bytes = new Uint8Array(REPLY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, VERSION);
  view.setUint8(1, ANSWERS[answer]);
  view.setUint32(4, number, LITTLE_ENDIAN);
  return bytes;
}

/** The kernel's name of a program, out of its 16 bytes. It chose that itself, and must not steer whoever prints it. */
export function programName(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString("latin1")
    .replace(/\0.*$/s, "")
    .replace(/[^ -~]/g, "?");
}

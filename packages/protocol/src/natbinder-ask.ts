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

const WHAT = { 1: "bind", 2: "release" } as const;
const ANSWERS = { ignored: 0, succeeded: 1, failed: 2 } as const;

export interface AskRequest {
  /**
   * `bind`: the first socket along holds a port, the second (where there are two) is to have it. `release`: the socket
   * along was to have a port, and has none.
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
  const name = Buffer.from(bytes.subarray(PROGRAM_AT)).toString("latin1");
  return {
    what,
    number: view.getUint32(4, LITTLE_ENDIAN),
    pid: view.getUint32(8, LITTLE_ENDIAN),
    // A program chooses its name itself; it must not steer whoever prints it.
    program: name.replace(/\0.*$/s, "").replace(/[^ -~]/g, "?"),
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

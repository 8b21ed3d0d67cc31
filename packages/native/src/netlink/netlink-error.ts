import { constants } from "node:os";
import { getSystemErrorMessage } from "node:util";

/** What the kernel says beyond a number about a request that it refused (NETLINK_EXT_ACK). */
export interface ExtendedAck {
  /** Its words. */
  readonly message?: string;
  /** Where in the request, in bytes from its header on, the attribute stands that it did not like. */
  readonly offset?: number;
  /** The same by name, where a specification is known: `cell[1].port0`. */
  readonly attribute?: string;
  /** The type of an attribute that should have been there. */
  readonly missingType?: number;
  /** Where the nest stands in which it should have been; absent at the top. */
  readonly missingNest?: number;
  /** The same by name. */
  readonly missing?: string;
}

const NAMES = new Map<number, string>();
for (const [name, errno] of Object.entries(constants.errno)) {
  // The first of two names for one number is the usual one: EAGAIN, not EWOULDBLOCK; ENOTSUP is Node's word.
  if (!NAMES.has(errno)) NAMES.set(errno, name);
}

/** A request that failed: refused by the kernel, or without an answer. */
export class NetlinkError extends Error {
  /** The name of the error: `ENOENT`. `ENOBUFS`: the answer was lost; `ECANCELED`: the socket was closed before. */
  readonly code: string;
  readonly extendedAck: ExtendedAck;

  /** @param request what was asked for, in words */
  static fromErrno(request: string, errno: number, extendedAck: ExtendedAck = {}): NetlinkError {
    const code = NAMES.get(errno) ?? `E${errno}`;
    const { message, attribute, missing } = extendedAck;
    const where = attribute ? ` (attribute ${attribute})` : missing ? ` (attribute ${missing} is missing)` : "";
    const text = message ?? getSystemErrorMessage(-errno) ?? "unknown error";
    return new NetlinkError(code, `${request}: ${code}, ${text}${where}`, extendedAck);
  }

  static of(code: string, message: string): NetlinkError {
    return new NetlinkError(code, message, {});
  }

  private constructor(code: string, message: string, extendedAck: ExtendedAck) {
    super(message);
    this.name = "NetlinkError";
    this.code = code;
    this.extendedAck = extendedAck;
  }
}

/** Bytes that are no messages or attributes as they should be, or values that cannot be written as such. */
export class NetlinkFormatError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "NetlinkFormatError";
  }
}

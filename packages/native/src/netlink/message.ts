import { readAttributes } from "./attributes.ts";
import { align, LITTLE_ENDIAN, viewOf } from "./byte-order.ts";
import { type ExtendedAck, NetlinkFormatError } from "./netlink-error.ts";

/** struct nlmsghdr: length, type, flags, sequence, port id. */
export const HEADER_BYTES = 16;

/** Types that mean the same in every protocol. */
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
const NLMSG_NOOP = 1;

/** Flags of requests. */
export const NLM_F_REQUEST = 0x01;
export const NLM_F_ACK = 0x04;
export const NLM_F_DUMP = 0x300;
/** Flags of answers. */
export const NLM_F_DUMP_INTR = 0x10;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;

const ATTR_MESSAGE = 1;
const ATTR_OFFSET = 2;
const ATTR_MISSING_TYPE = 5;
const ATTR_MISSING_NEST = 6;

/** A message as it was received; the payload stands in a buffer that is used again. */
export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** Of the socket whose request it answers, or caused it; 0 for most notifications. */
  readonly portId: number;
  readonly payload: Uint8Array;
}

/** Fills in the header of a message that has room for it. */
export function writeHeader(message: Uint8Array, type: number, flags: number, sequence: number): void {
  const view = viewOf(message);
  view.setUint32(0, message.length, LITTLE_ENDIAN);
  view.setUint16(4, type, LITTLE_ENDIAN);
  view.setUint16(6, flags, LITTLE_ENDIAN);
  view.setUint32(8, sequence, LITTLE_ENDIAN);
  view.setUint32(12, 0, LITTLE_ENDIAN);
}

/** The messages of a datagram. @throws NetlinkFormatError */
export function* readMessages(datagram: Uint8Array): Generator<NetlinkMessage> {
  const view = viewOf(datagram);
  for (let offset = 0; offset < datagram.length; ) {
    if (datagram.length - offset < HEADER_BYTES) throw new NetlinkFormatError("a message header is cut");
    const length = view.getUint32(offset, LITTLE_ENDIAN);
    if (length < HEADER_BYTES || offset + length > datagram.length) {
      throw new NetlinkFormatError(`a message of ${length} bytes at ${offset} of ${datagram.length}`);
    }
    const type = view.getUint16(offset + 4, LITTLE_ENDIAN);
    if (type !== NLMSG_NOOP) {
      yield {
        type,
        flags: view.getUint16(offset + 6, LITTLE_ENDIAN),
        sequence: view.getUint32(offset + 8, LITTLE_ENDIAN),
        portId: view.getUint32(offset + 12, LITTLE_ENDIAN),
        payload: datagram.subarray(offset + HEADER_BYTES, offset + length),
      };
    }
    offset += align(length);
  }
}

/** What stands in NLMSG_ERROR and NLMSG_DONE; errno 0 is success. @throws NetlinkFormatError */
export function readAck({ type, flags, payload }: NetlinkMessage): { errno: number; extendedAck: ExtendedAck } {
  // Of some families a DONE carries nothing.
  if (type === NLMSG_DONE && payload.length < 4) return { errno: 0, extendedAck: {} };
  if (payload.length < (type === NLMSG_ERROR ? 4 + HEADER_BYTES : 4)) {
    throw new NetlinkFormatError("an acknowledgement is cut");
  }
  const view = viewOf(payload);
  const errno = -view.getInt32(0, LITTLE_ENDIAN);
  if (!(flags & NLM_F_ACK_TLVS)) return { errno, extendedAck: {} };
  let start = 4;
  // The request that is answered: whole, or its header alone.
  if (type === NLMSG_ERROR) start += flags & NLM_F_CAPPED ? HEADER_BYTES : align(view.getUint32(4, LITTLE_ENDIAN));
  return { errno, extendedAck: readExtendedAck(payload.subarray(Math.min(start, payload.length))) };
}

function readExtendedAck(bytes: Uint8Array): ExtendedAck {
  const ack: { -readonly [K in keyof ExtendedAck]: ExtendedAck[K] } = {};
  for (const { type, payload } of readAttributes(bytes)) {
    if (type === ATTR_MESSAGE) ack.message = Buffer.from(payload).toString().replace(/\0.*$/s, "");
    if (payload.length !== 4) continue;
    const value = viewOf(payload).getUint32(0, LITTLE_ENDIAN);
    if (type === ATTR_OFFSET) ack.offset = value;
    if (type === ATTR_MISSING_TYPE) ack.missingType = value;
    if (type === ATTR_MISSING_NEST) ack.missingNest = value;
  }
  return ack;
}

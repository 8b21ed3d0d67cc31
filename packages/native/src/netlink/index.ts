export { AttributeWriter, type RawAttribute, readAttributes } from "./attributes.ts";
export { netlinkUnavailable } from "./available.ts";
export { AttributeCodec } from "./codec.ts";
export type { Attributes, FamilySpec, OperationAttributes, OperationName } from "./family-spec.ts";
export {
  type EventListener,
  type FamilyOptions,
  type GenericEvent,
  GenericFamily,
  NETLINK_GENERIC,
} from "./generic-family.ts";
export * from "./ist.ts";
export { HEADER_BYTES, type NetlinkMessage } from "./message.ts";
export * from "./natpass.ts";
export { type ExtendedAck, NetlinkError, NetlinkFormatError } from "./netlink-error.ts";
export { type LostReason, type NetlinkRequest, NetlinkSocket, type NetlinkSocketOptions } from "./netlink-socket.ts";
export { NLCTRL } from "./nlctrl.ts";

// Generated from kernel/uapi/ist.yaml; do not edit.

/**
 * The Internet Service Translator's data path in the kernel: Passive and Pure
 * TCP Splice and UDP. State is per network namespace. Requests that change
 * something need CAP_NET_ADMIN in the namespace's user namespace.
 *
 * Numbers, ports among them, are in host byte order and 64-bit ones need not be
 * aligned; addresses are 4 or 16 bytes in network byte order; times are
 * milliseconds. Zero means "no limit" for limits.
 */
export const IST_FAMILY = {
  name: "ist",
  version: 1,
  groups: ["events"],
  operations: {
    "alloc-new": { command: 1, attributes: "alloc" },
    "alloc-set": { command: 2, attributes: "alloc" },
    "alloc-del": { command: 3, attributes: "alloc" },
    "alloc-get": { command: 4, attributes: "alloc" },
    "splice-get": { command: 5, attributes: "splice" },
    "splice-del": { command: 6, attributes: "splice" },
    "stats-get": { command: 7, attributes: "stats" },
    "half-ntf": { command: 8, attributes: "half" },
    "splice-ntf": { command: 9, attributes: "splice" },
    "alloc-ntf": { command: 10, attributes: "alloc" },
  },
  enums: {
    mode: ["passive", "pure", "fanout"],
    state: ["listen", "syn-lookup", "syn-rcvd", "established", "close-wait", "time-wait", "closed"],
    reason: [
      "none",
      "finished",
      "reset",
      "no-peer-leg",
      "replaced",
      "idle-limit",
      "time-limit",
      "byte-limit",
      "splice-limit",
      "released",
      "revoked",
      "drained",
      "not-joined",
      "expired",
      "unanswered",
      "stranger",
      "early",
      "foreign",
      "rate",
      "unsendable",
      "too-big",
      "hop-limit",
      "malformed",
      "checksum",
      "beyond-fin",
      "stray-syn",
      "window",
      "table-full",
      "no-memory",
    ],
  },
  attributes: {
    source: {
      side: { type: 1, kind: "u8", max: 1 },
      address: { type: 2, kind: "binary", minBytes: 4, maxBytes: 16 },
      prefix: { type: 3, kind: "u8", max: 128 },
    },
    sources: {
      source: { type: 1, kind: "nest", of: "source", multi: true },
    },
    limits: {
      splices: { type: 1, kind: "u32" },
      idle: { type: 2, kind: "u64" },
      total: { type: 3, kind: "u64" },
      bytes: { type: 4, kind: "u64" },
      rate: { type: 5, kind: "u64" },
    },
    timeouts: {
      half: { type: 1, kind: "u32", min: 10, max: 130000 },
      synAck: { type: 2, kind: "u32", min: 10, max: 130000 },
      synRcvd: { type: 3, kind: "u32", min: 10, max: 86400000 },
      established: { type: 4, kind: "u32", min: 10, max: 86400000 },
      closeWait: { type: 5, kind: "u32", min: 10, max: 86400000 },
      timeWait: { type: 6, kind: "u32", min: 10, max: 86400000 },
      closed: { type: 7, kind: "u32", min: 10, max: 86400000 },
      udp: { type: 8, kind: "u32", min: 10, max: 86400000 },
    },
    cell: {
      number: { type: 1, kind: "u32" },
      mode: { type: 2, kind: "u8", values: "mode" },
      port0: { type: 3, kind: "u16" },
      port1: { type: 4, kind: "u16" },
      remotePort0: { type: 5, kind: "u16" },
      remotePort1: { type: 6, kind: "u16" },
      group: { type: 7, kind: "binary", minBytes: 4, maxBytes: 16 },
      groupPort: { type: 8, kind: "u16", min: 1 },
      groupIfindex: { type: 9, kind: "u32" },
      maxReceivers: { type: 10, kind: "u32", min: 1, max: 1024 },
    },
    alloc: {
      id: { type: 1, kind: "u64" },
      lifetime: { type: 2, kind: "u64" },
      sources: { type: 3, kind: "nest", of: "sources" },
      limits: { type: 4, kind: "nest", of: "limits" },
      timeouts: { type: 5, kind: "nest", of: "timeouts" },
      cell: { type: 6, kind: "nest", of: "cell", multi: true },
      removeCell: { type: 7, kind: "u32", multi: true },
      reason: { type: 8, kind: "u8", values: "reason" },
      splices: { type: 9, kind: "u32" },
      age: { type: 10, kind: "u64" },
      more: { type: 11, kind: "flag" },
    },
    leg: {
      side: { type: 1, kind: "u8" },
      remote: { type: 2, kind: "binary" },
      remotePort: { type: 3, kind: "u16" },
      local: { type: 4, kind: "binary" },
      localPort: { type: 5, kind: "u16" },
      packets: { type: 6, kind: "u64" },
      bytes: { type: 7, kind: "u64" },
    },
    splice: {
      id: { type: 1, kind: "u64" },
      alloc: { type: 2, kind: "u64" },
      cell: { type: 3, kind: "u32" },
      proto: { type: 4, kind: "u8" },
      mode: { type: 5, kind: "u8", values: "mode" },
      state: { type: 6, kind: "u8", values: "state" },
      reason: { type: 7, kind: "u8", values: "reason" },
      leg: { type: 8, kind: "nest", of: "leg", multi: true },
      age: { type: 9, kind: "u64" },
      idle: { type: 10, kind: "u64" },
    },
    half: {
      alloc: { type: 1, kind: "u64" },
      cell: { type: 2, kind: "u32" },
      proto: { type: 3, kind: "u8" },
      side: { type: 4, kind: "u8" },
      remote: { type: 5, kind: "binary" },
      remotePort: { type: 6, kind: "u16" },
      reason: { type: 7, kind: "u8", values: "reason" },
    },
    "reason-count": {
      reason: { type: 1, kind: "u8", values: "reason" },
      ended: { type: 2, kind: "u64" },
      packets: { type: 3, kind: "u64" },
    },
    stats: {
      allocs: { type: 1, kind: "u32" },
      cells: { type: 2, kind: "u32" },
      halves: { type: 3, kind: "u32" },
      splices: { type: 4, kind: "u32" },
      udpSplices: { type: 5, kind: "u32" },
      lingering: { type: 6, kind: "u32" },
      packets: { type: 7, kind: "u64" },
      bytes: { type: 8, kind: "u64" },
      reasonCount: { type: 9, kind: "nest", of: "reason-count", multi: true },
    },
  },
} as const;

/** cells of one allocation */
export const IST_MAX_CELLS = 256;

/** expected source prefixes of one allocation, both sides together */
export const IST_MAX_SOURCES = 64;

/** the longest that an unpaired leg may wait; clients give up before */
export const IST_MAX_HALF_MS = 130000;

export const IST_MAX_TIMEOUT_MS = 86400000;

/**
 * what a cell does with the legs that meet there
 * - passive: each side has a port of its own; source ports are any (T 4.3)
 * - pure: ports pass unchanged, one side's source port is the other's destination (T 4.4)
 * - fanout: UDP alone; datagrams of side 0 go to every receiver of side 1 and to the group
 */
export type IstMode = "passive" | "pure" | "fanout";

/**
 * of a splice, by the names of T 5.2; UDP knows ESTABLISHED and CLOSED alone
 * - listen: a cell where nobody waits
 * - syn-lookup: one leg waits for its peer
 * - syn-rcvd: both legs are there and were answered
 * - established: both ends acknowledged the answer
 * - close-wait: one end sent FIN
 * - time-wait: both ends sent FIN
 * - closed: one end was reset, or the splice is gone
 */
export type IstState = "listen" | "syn-lookup" | "syn-rcvd" | "established" | "close-wait" | "time-wait" | "closed";

/**
 * Why a leg or a splice ended, or why a packet was not forwarded. Each has
 * two counters in stats.
 * - none
 * - finished: both ends sent FIN
 * - reset: an end reset its leg
 * - no-peer-leg: the other side's leg did not come in time
 * - replaced: a newer leg took the place
 * - idle-limit: nothing was sent for the idle time
 * - time-limit: the splice reached its longest time
 * - byte-limit: the splice reached its number of bytes
 * - splice-limit: the allocation holds as many splices as it may
 * - released: the allocation or its cell was removed
 * - revoked: the right to use the service was withdrawn
 * - drained: the IST is draining
 * - not-joined: neither or only one side joined the allocation in time
 * - expired: the allocation's lifetime is over
 * - unanswered: an end did not acknowledge its SYN-ACK in time
 * - stranger: the source address is not expected at this cell
 * - early: the other side has not sent anything yet
 * - foreign: another source holds this side of the cell
 * - rate: the allocation is above its rate
 * - unsendable: there is no route, no memory or no way to send it
 * - too-big: it does not fit the path and must not be split; the sender was told
 * - hop-limit: its TTL or hop limit is used up; the sender was told
 * - malformed: a header is cut, contradicts itself or has options that cannot be forwarded
 * - checksum: the checksum of a SYN is wrong
 * - beyond-fin: data after the end of the stream
 * - stray-syn: a SYN, or SYN-ACK, that does not belong to the splice's handshake
 * - window: a RST or FIN far from the receiver's window; it is forwarded, and ends nothing
 * - table-full: the namespace holds as many splices as the module's parameter allows
 * - no-memory: the kernel had no memory for a splice
 */
export type IstReason =
  | "none"
  | "finished"
  | "reset"
  | "no-peer-leg"
  | "replaced"
  | "idle-limit"
  | "time-limit"
  | "byte-limit"
  | "splice-limit"
  | "released"
  | "revoked"
  | "drained"
  | "not-joined"
  | "expired"
  | "unanswered"
  | "stranger"
  | "early"
  | "foreign"
  | "rate"
  | "unsendable"
  | "too-big"
  | "hop-limit"
  | "malformed"
  | "checksum"
  | "beyond-fin"
  | "stray-syn"
  | "window"
  | "table-full"
  | "no-memory";

/** a prefix from which legs of one side are expected */
export interface IstSource {
  side?: number | undefined;
  /** 4 bytes of IPv4 or 16 bytes of IPv6 */
  address?: Uint8Array | undefined;
  /** leading bits that count; all of them when absent */
  prefix?: number | undefined;
}

export interface IstSources {
  source?: IstSource[] | undefined;
}

/** what an allocation and its splices are held to; a limit that is absent stays as it is */
export interface IstLimits {
  /** splices at once; as many again that are over are remembered for late packets */
  splices?: number | undefined;
  /** a splice on which nothing moves this long ends */
  idle?: bigint | undefined;
  /** a splice that is this old ends */
  total?: bigint | undefined;
  /** payload of one splice, both ways together */
  bytes?: bigint | undefined;
  /** bytes of payload per second of the whole allocation, both ways together */
  rate?: bigint | undefined;
}

/** how long each state may last without a packet; one that is absent stays as it is */
export interface IstTimeouts {
  /** an unpaired TCP leg, after its last SYN; 3500 at first */
  half?: number | undefined;
  /** the first repetition of an unanswered SYN-ACK, doubled each time; 300 at first */
  synAck?: number | undefined;
  /** both ends must have acknowledged by then; 60000 at first */
  synRcvd?: number | undefined;
  /** an open connection; 7440000 at first (RFC 5382) */
  established?: number | undefined;
  /** a connection that one end has closed; 7440000 at first */
  closeWait?: number | undefined;
  /** a connection that both ends have closed; 60000 at first */
  timeWait?: number | undefined;
  /** a connection that was reset, should it go on in spite of that; 10000 at first */
  closed?: number | undefined;
  /** a pair of UDP sources, or one that waits; 300000 at first */
  udp?: number | undefined;
}

export interface IstCell {
  /** names the cell within its allocation */
  number?: number | undefined;
  mode?: IstMode | undefined;
  /** where legs of side 0 arrive; 0 in a pure cell that is to learn it */
  port0?: number | undefined;
  /** where legs of side 1 arrive; 0 in a pure cell that is to learn it */
  port1?: number | undefined;
  /** the source port that side 0 must have; 0 is any */
  remotePort0?: number | undefined;
  /** the source port that side 1 must have; 0 is any */
  remotePort1?: number | undefined;
  /** of a fan-out, an address that gets every datagram of side 0 as well */
  group?: Uint8Array | undefined;
  groupPort?: number | undefined;
  /** the interface by which a multicast group is reached */
  groupIfindex?: number | undefined;
  /** of a fan-out; 64 when absent */
  maxReceivers?: number | undefined;
}

/** an IST's promise to one link */
export interface IstAlloc {
  id?: bigint | undefined;
  /** it ends this long after the last request that set this, 0 never; in replies what is left */
  lifetime?: bigint | undefined;
  /** all expected sources from now on */
  sources?: IstSources | undefined;
  limits?: IstLimits | undefined;
  timeouts?: IstTimeouts | undefined;
  /** added; or, in set, changed where the number is known */
  cell?: IstCell[] | undefined;
  /** cells that shall be no more; their splices go on */
  removeCell?: number[] | undefined;
  /** why it ends; released when absent */
  reason?: IstReason | undefined;
  /** splices that are not over */
  splices?: number | undefined;
  age?: bigint | undefined;
  /** in dumps, further cells of the same allocation follow in the next message */
  more?: boolean | undefined;
}

export interface IstLeg {
  side?: number | undefined;
  remote?: Uint8Array | undefined;
  remotePort?: number | undefined;
  local?: Uint8Array | undefined;
  localPort?: number | undefined;
  /** forwarded from this leg */
  packets?: bigint | undefined;
  /** payload forwarded from this leg */
  bytes?: bigint | undefined;
}

export interface IstSplice {
  id?: bigint | undefined;
  alloc?: bigint | undefined;
  cell?: number | undefined;
  /** IPPROTO_TCP or IPPROTO_UDP */
  proto?: number | undefined;
  mode?: IstMode | undefined;
  state?: IstState | undefined;
  /** why it ended, once it has */
  reason?: IstReason | undefined;
  leg?: IstLeg[] | undefined;
  age?: bigint | undefined;
  idle?: bigint | undefined;
}

/** an unpaired leg */
export interface IstHalf {
  alloc?: bigint | undefined;
  cell?: number | undefined;
  proto?: number | undefined;
  side?: number | undefined;
  remote?: Uint8Array | undefined;
  remotePort?: number | undefined;
  /** why it waits no longer; absent when it has just come */
  reason?: IstReason | undefined;
}

export interface IstReasonCount {
  reason?: IstReason | undefined;
  /** legs and splices */
  ended?: bigint | undefined;
  /** not forwarded */
  packets?: bigint | undefined;
}

export interface IstStats {
  allocs?: number | undefined;
  cells?: number | undefined;
  /** unpaired legs */
  halves?: number | undefined;
  /** splices that are not over */
  splices?: number | undefined;
  /** those of them that carry datagrams */
  udpSplices?: number | undefined;
  /** splices that are over and remembered for late packets */
  lingering?: number | undefined;
  /** forwarded */
  packets?: bigint | undefined;
  /** payload forwarded */
  bytes?: bigint | undefined;
  /** reasons that occurred */
  reasonCount?: IstReasonCount[] | undefined;
}

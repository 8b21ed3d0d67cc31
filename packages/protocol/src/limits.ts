/**
 * Every limit of the wire format, with its unit and its reason. Time-outs that an operator may change live in the
 * configuration of the process that applies them; what both ends must agree on stands here.
 */
export const LIMITS = {
  /** Bytes of one session frame (text or binary). A full declaration of 128 services and 256 subscriptions fits. */
  sessionFrameBytes: 256 * 1024,
  /** Bytes of one session frame before the login is complete: a login is under 2 KiB. */
  loginFrameBytes: 8 * 1024,
  /** Services that one device may provide. */
  servicesPerDevice: 128,
  /** Subscriptions that one device may hold. */
  subscriptionsPerDevice: 256,
  /** Channels of one service. SIP needs three splices (T fig. 3.7); eight leaves room. */
  channelsPerService: 8,
  /** Users named in one who-may-use list. */
  allowedUsersPerService: 256,
  /** Directory entries in one page of `list`. */
  directoryPage: 100,
  /** Bytes of one sealed control message between daemons (an `open` is about 200). */
  controlPlaintextBytes: 4 * 1024,
  /** Bytes of one Noise message as carried by subscribe and accept. */
  handshakeBytes: 2 * 1024,
  /** Bytes of one grant (a compact JWS). */
  grantBytes: 2 * 1024,
  /** Cells of one allocation, over both openers. */
  cellsPerAllocation: 128,
  /** Source addresses that may join one side of an allocation: the session's and those that `also` proved. */
  sourcesPerSide: 8,
  /** Open ids refused as repeats are remembered over this many ids behind the newest. */
  openWindow: 4096,
  /** Bytes a side may send, and must keep, before a valid peer preface arrived. */
  unprovedBytes: 64 * 1024,
  /** Plaintext bytes of one record (RFC 8446 section 5.1). */
  recordPlaintextBytes: 16_384,
  /** Records under one key before a key update (well below the bounds of RFC 8446 section 5.5). */
  recordsPerKey: 2 ** 24,
  /** Bytes of a UDP payload that passes every path without a probe. */
  datagramFloorBytes: 1200,
  /** The largest payload that is probed for: Ethernet's 1,500 less IPv6 and UDP headers. */
  datagramCeilingBytes: 1452,
  /** Bytes of one application datagram: the largest that IPv4 UDP can carry. */
  applicationDatagramBytes: 65_507,
  /** Datagrams, and bytes, that wait on each side for a path or for the meaning of a flow id. */
  earlyDatagrams: 64,
  earlyDatagramBytes: 64 * 1024,
} as const;

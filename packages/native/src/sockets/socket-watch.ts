import { readAttributes } from "../netlink/attributes.ts";
import { LITTLE_ENDIAN, viewOf } from "../netlink/byte-order.ts";
import { HEADER_BYTES, type NetlinkMessage } from "../netlink/message.ts";
import { NetlinkSocket } from "../netlink/netlink-socket.ts";

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
/** The multicast groups of linux/sock_diag.h: TCP and UDP of IPv4 and of IPv6. */
const DESTROY_GROUPS = [1, 2, 3, 4];
const [AF_INET, AF_INET6] = [2, 10];
const [IPPROTO_TCP, IPPROTO_UDP] = [6, 17];
const [TCP_TIME_WAIT, TCP_CLOSE, TCP_LISTEN, TCP_NEW_SYN_RECV] = [6, 7, 10, 12];
/** Bound and nothing else. Kernels before 6.8 do not know it. */
const TCP_BOUND_INACTIVE = 13;
/** Those that a program has: neither what is left of connections nor what may become one. There can be very many of these. */
const HELD_STATES = ~((1 << TCP_TIME_WAIT) | (1 << TCP_NEW_SYN_RECV));
const UNCONNECTED_STATES = (1 << TCP_CLOSE) | (1 << TCP_LISTEN) | (1 << TCP_BOUND_INACTIVE);
/** struct inet_diag_req_v2. */
const REQUEST_BYTES = 56;
/** Offsets in struct inet_diag_msg, which attributes follow. The cookie is in two halves, the lower first. */
const STATE_AT = 1;
const PORT_AT = 4;
const ADDRESS_AT = 8;
const DEVICE_AT = 40;
const COOKIE_AT = 44;
const UID_AT = 64;
const INODE_AT = 68;
const LEAST_MESSAGE_BYTES = 72;
const INET_DIAG_SKV6ONLY = 11;
/** A host that closes many connections: as many ends must wait until they are read. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

/** A socket of this network, whoever holds it. */
export interface OpenSocket {
  /** SO_COOKIE, in decimal. */
  readonly cookie: string;
  readonly port: number;
  /** It neither listens nor is merely bound. */
  readonly isConnected: boolean;
  /** It is bound to all addresses, IPv4 ones among them, and to no interface. */
  readonly takesAll: boolean;
  readonly family: 4 | 6;
  readonly uid: number;
  /** What the links in /proc/PID/fd say: `socket:[INODE]`. 0 when no process has it any more. */
  readonly inode: number;
}

export interface SocketWatchOptions {
  /** A TCP or UDP socket is gone, however that came about: its last holder closed it, ended or was killed. */
  onGone: (socket: OpenSocket) => void;
  /** Some ends were not heard: ask for {@link SocketWatch.open}. */
  onMissed: () => void;
}

/** Hears the end of every TCP and UDP socket of this network namespace, and lists those there are. Needs no privilege. */
export class SocketWatch {
  readonly #events: NetlinkSocket;
  readonly #questions = new NetlinkSocket({ protocol: NETLINK_SOCK_DIAG });

  /** @throws NetlinkError without the add-on, or where the kernel tells no ends */
  constructor({ onGone, onMissed }: SocketWatchOptions) {
    this.#events = new NetlinkSocket({
      protocol: NETLINK_SOCK_DIAG,
      receiveBufferBytes: RECEIVE_BUFFER_BYTES,
      onMessage: (message) => {
        const socket = readSocket(message);
        if (socket) onGone(socket);
      },
      onLost: onMissed,
    });
    for (const group of DESTROY_GROUPS) this.#events.join(group);
  }

  /**
   * Every TCP or UDP socket there is, or those alone that are not connected. Before Linux 6.8 TCP sockets that are bound,
   * and neither listen nor are connected, are not among them.
   * @throws NetlinkError
   */
  async open(protocol: "tcp" | "udp", { unconnected = false } = {}): Promise<OpenSocket[]> {
    const states = unconnected ? UNCONNECTED_STATES : HELD_STATES;
    const sockets: OpenSocket[] = [];
    for (const family of [AF_INET, AF_INET6]) {
      await this.#questions.dump({
        type: SOCK_DIAG_BY_FAMILY,
        name: `${protocol} sockets`,
        message: dumpRequest(family, protocol === "tcp" ? IPPROTO_TCP : IPPROTO_UDP, states),
        onReply: (message) => {
          const socket = readSocket(message);
          if (socket) sockets.push(socket);
        },
      });
    }
    return sockets;
  }

  close(): void {
    this.#events.close();
    this.#questions.close();
  }
}

function dumpRequest(family: number, protocol: number, states: number): Uint8Array {
  const message = new Uint8Array(HEADER_BYTES + REQUEST_BYTES);
  message[HEADER_BYTES] = family;
  message[HEADER_BYTES + 1] = protocol;
  viewOf(message).setUint32(HEADER_BYTES + 4, states, LITTLE_ENDIAN);
  return message;
}

function readSocket({ type, payload }: NetlinkMessage): OpenSocket | undefined {
  if (type !== SOCK_DIAG_BY_FAMILY || payload.length < LEAST_MESSAGE_BYTES) return undefined;
  const view = viewOf(payload);
  const low = view.getUint32(COOKIE_AT, LITTLE_ENDIAN);
  const high = view.getUint32(COOKIE_AT + 4, LITTLE_ENDIAN);
  const state = view.getUint8(STATE_AT);
  return {
    cookie: String((BigInt(high) << 32n) | BigInt(low)),
    port: view.getUint16(PORT_AT),
    isConnected: state !== TCP_CLOSE && state !== TCP_LISTEN,
    takesAll: view.getUint32(DEVICE_AT, LITTLE_ENDIAN) === 0 && isAny(payload) && !isIpv6Only(payload),
    family: payload[0] === AF_INET ? 4 : 6,
    uid: view.getUint32(UID_AT, LITTLE_ENDIAN),
    inode: view.getUint32(INODE_AT, LITTLE_ENDIAN),
  };
}

/** 0.0.0.0, `::` or `::ffff:0.0.0.0`. */
function isAny(payload: Uint8Array): boolean {
  const address = payload.subarray(ADDRESS_AT, ADDRESS_AT + (payload[0] === AF_INET ? 4 : 16));
  return address.every((byte, index) => byte === 0 || (byte === 0xff && (index === 10 || index === 11)));
}

function isIpv6Only(payload: Uint8Array): boolean {
  const attributes = readAttributes(payload.subarray(LEAST_MESSAGE_BYTES));
  return [...attributes].some(({ type, payload: value }) => type === INET_DIAG_SKV6ONLY && value[0] === 1);
}

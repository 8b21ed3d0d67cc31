import {
  AttributeWriter,
  HEADER_BYTES,
  type NetlinkMessage,
  NetlinkSocket,
  type RawAttribute,
  readAttributes,
} from "@isthmus/native/netlink";

/** linux/rtnetlink.h */
const NETLINK_ROUTE = 0;
const RTM_GETLINK = 18;
const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
const RTM_DELTFILTER = 45;
const RTM_GETTFILTER = 46;
const RTNLGRP_LINK = 1;
const RTNLGRP_TC = 4;
const RTNLGRP_IPV4_IFADDR = 5;
const RTNLGRP_IPV6_IFADDR = 9;
const IFINFOMSG_BYTES = 16;
const IFADDRMSG_BYTES = 8;
const RTMSG_BYTES = 12;
const TCMSG_BYTES = 20;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MASTER = 10;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_PREFSRC = 7;
const TCA_OPTIONS = 2;
const TCA_BPF_ID = 11;
/** linux/if_arp.h */
const ARPHRD_ETHER = 1;
const ARPHRD_LOOPBACK = 772;
const AF_INET = 2;
const AF_INET6 = 10;
/** The filters belong to the network namespace, and so does the right to use them. */
export const LOCK = "isthmus-ist-ebpf";
/** Of our filters; c/bpf/object.c has the same. */
export const FILTER_PRIORITY = 0x4953;

/** The ingress side of clsact. */
const INGRESS = 0xffff_fff2;
/** Whoever sets up a host changes much at once. */
const SETTLE_MS = 20;

/** A network interface by which legs may come. */
export interface Interface {
  readonly index: number;
  readonly name: string;
}

/** Always there, so that the maps of its filter outlive this process and all other interfaces. */
export const LOOPBACK: Interface = { index: 1, name: "lo" };

/** A filter of an interface's incoming packets. */
export interface Filter {
  readonly priority: number;
  /** Of a BPF program. */
  readonly programId?: number;
}

/** The program of our filter among those of an interface. */
export function ownProgram(filters: readonly Filter[]): number | undefined {
  return filters.find(({ priority, programId }) => priority === FILTER_PRIORITY && programId)?.programId;
}

/** How packets get to an address. */
export interface Route {
  readonly ifindex: number;
  /** Our address, of the same family. */
  readonly source: Uint8Array;
  /** The hardware address of the interface, 6 bytes. */
  readonly hardware: Uint8Array;
}

/** The interfaces of the network namespace that this process is in, with their addresses and filters. */
export class Interfaces {
  readonly #socket: NetlinkSocket;
  readonly #events: NetlinkSocket;
  #settling: NodeJS.Timeout | undefined;

  /** @throws NetlinkError */
  constructor(onChange: () => void) {
    this.#socket = new NetlinkSocket({ protocol: NETLINK_ROUTE });
    const changed = (): void => {
      this.#settling ??= setTimeout(() => {
        this.#settling = undefined;
        onChange();
      }, SETTLE_MS);
    };
    this.#events = new NetlinkSocket({ protocol: NETLINK_ROUTE, onMessage: changed, onLost: changed });
    for (const group of [RTNLGRP_LINK, RTNLGRP_TC, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR]) this.#events.join(group);
  }

  /** Those with Ethernet's header that are no part of another one, and the loopback device. @throws NetlinkError */
  async list(): Promise<Interface[]> {
    const found: Interface[] = [];
    await this.#dump("interfaces", RTM_GETLINK, IFINFOMSG_BYTES, ({ payload }, view) => {
      const type = view.getUint16(2, true);
      const attributes = attributesOf(payload.subarray(IFINFOMSG_BYTES));
      if ((type !== ARPHRD_ETHER && type !== ARPHRD_LOOPBACK) || attributes.has(IFLA_MASTER)) return;
      const name = Buffer.from(attributes.get(IFLA_IFNAME) ?? [])
        .toString()
        .replace(/\0.*$/s, "");
      found.push({ index: view.getInt32(4, true), name });
    });
    return found;
  }

  /** Of 4 or 16 bytes. @throws NetlinkError */
  async addresses(): Promise<Uint8Array[]> {
    const found: Uint8Array[] = [];
    await this.#dump("addresses", RTM_GETADDR, IFADDRMSG_BYTES, ({ payload }) => {
      const attributes = attributesOf(payload.subarray(IFADDRMSG_BYTES));
      const address = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
      if (address) found.push(Uint8Array.from(address));
    });
    return found;
  }

  /** @throws NetlinkError */
  async filters({ index }: Interface): Promise<Filter[]> {
    const found: Filter[] = [];
    const prepare = (view: DataView): void => {
      view.setInt32(4, index, true);
      view.setUint32(12, INGRESS, true);
    };
    const read = ({ payload }: NetlinkMessage, view: DataView): void => {
      const options = attributesOf(payload.subarray(TCMSG_BYTES)).get(TCA_OPTIONS);
      const id = options && attributesOf(options).get(TCA_BPF_ID);
      const priority = view.getUint32(16, true) >>> 16;
      found.push({ priority, ...(id ? { programId: Buffer.from(id).readUInt32LE() } : {}) });
    };
    await this.#dump(`filters of interface ${index}`, RTM_GETTFILTER, TCMSG_BYTES, read, prepare);
    return found;
  }

  /** @throws NetlinkError */
  async removeFilters({ index }: Interface, priority: number): Promise<void> {
    const { bytes: message } = new AttributeWriter(HEADER_BYTES + TCMSG_BYTES);
    const head = viewBehindHeader(message);
    head.setInt32(4, index, true);
    head.setUint32(12, INGRESS, true);
    head.setUint32(16, priority << 16, true);
    await this.#socket.request({ name: `filters of interface ${index}`, type: RTM_DELTFILTER, message });
  }

  /** @param ifindex by this interface, where it is not 0. @throws NetlinkError */
  async route(to: Uint8Array, ifindex: number): Promise<Route> {
    const question = new AttributeWriter(HEADER_BYTES + RTMSG_BYTES);
    question.put(RTA_DST, to);
    if (ifindex > 0) question.putU32(RTA_OIF, ifindex);
    const head = viewBehindHeader(question.bytes);
    head.setUint8(0, to.length === 4 ? AF_INET : AF_INET6);
    head.setUint8(1, 8 * to.length);
    const found = await this.#ask("a route", RTM_GETROUTE, question.bytes, RTMSG_BYTES);
    const by = Buffer.from(found.get(RTA_OIF) ?? [0, 0, 0, 0]).readUInt32LE();
    const { bytes } = new AttributeWriter(HEADER_BYTES + IFINFOMSG_BYTES);
    viewBehindHeader(bytes).setInt32(4, by, true);
    const link = await this.#ask("an interface", RTM_GETLINK, bytes, IFINFOMSG_BYTES);
    return {
      ifindex: by,
      source: found.get(RTA_PREFSRC) ?? new Uint8Array(to.length),
      hardware: link.get(IFLA_ADDRESS) ?? new Uint8Array(6),
    };
  }

  close(): void {
    clearTimeout(this.#settling);
    this.#socket.close();
    this.#events.close();
  }

  /** The attributes of the answer. */
  async #ask(name: string, type: number, message: Uint8Array, headBytes: number): Promise<Map<number, Uint8Array>> {
    let answer = new Map<number, Uint8Array>();
    await this.#socket.request({
      name,
      type,
      message,
      onReply: ({ payload }) => {
        answer = attributesOf(Uint8Array.from(payload.subarray(headBytes)));
      },
    });
    return answer;
  }

  async #dump(
    name: string,
    type: number,
    headBytes: number,
    read: (message: NetlinkMessage, view: DataView) => void,
    prepare: (view: DataView) => void = () => undefined,
  ): Promise<void> {
    const { bytes: message } = new AttributeWriter(HEADER_BYTES + headBytes);
    prepare(viewBehindHeader(message));
    await this.#socket.dump({
      name,
      type,
      message,
      onReply: (reply) => {
        const { buffer, byteOffset, byteLength } = reply.payload;
        if (byteLength >= headBytes) read(reply, new DataView(buffer, byteOffset, byteLength));
      },
    });
  }
}

function viewBehindHeader({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset + HEADER_BYTES, byteLength - HEADER_BYTES);
}

function attributesOf(bytes: Uint8Array): Map<number, Uint8Array> {
  return new Map(Array.from(readAttributes(bytes), ({ type, payload }: RawAttribute) => [type, payload]));
}

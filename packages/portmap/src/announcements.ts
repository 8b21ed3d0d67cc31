import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { type NatPmpAnswer, parseNatPmpAnswer } from "./port-control/nat-pmp-packet.ts";
import { type PcpAnswer, parsePcpAnswer } from "./port-control/pcp-packet.ts";
import { ANNOUNCEMENT_PORT } from "./port-control/port-control.ts";
import { parseSsdpMessage, SSDP_GROUP, SSDP_PORT, type SsdpMessage } from "./upnp/ssdp-message.ts";

/** All hosts of the network (RFC 6886, 3.2.1; RFC 6887, 14.1.3). */
const ALL_HOSTS = "224.0.0.1";

export interface AnnouncementListeners {
  onSsdp: (message: SsdpMessage, from: string) => void;
  onPcp: (answer: PcpAnswer, from: string) => void;
  onNatPmp: (answer: NatPmpAnswer, from: string) => void;
}

export interface AnnouncementPorts {
  /** @default 1900 */
  ssdp?: number;
  /** @default 5350 */
  portControl?: number;
}

/** Hears what gateways tell everybody: SSDP, PCP and NAT-PMP. Whatever else comes is passed over. */
export class Announcements {
  readonly #sockets: Socket[] = [];
  readonly #listeners: AnnouncementListeners;
  readonly #ports: Required<AnnouncementPorts>;

  constructor(listeners: AnnouncementListeners, ports: AnnouncementPorts = {}) {
    this.#listeners = listeners;
    this.#ports = { ssdp: SSDP_PORT, portControl: ANNOUNCEMENT_PORT, ...ports };
  }

  /**
   * Listens on the network of that own address. A port that somebody holds for himself is done without: what is
   * announced is found out later by asking.
   */
  async start(localAddress: string): Promise<void> {
    await Promise.all([
      this.#listen(SSDP_GROUP, this.#ports.ssdp, localAddress, this.#ssdp),
      this.#listen(ALL_HOSTS, this.#ports.portControl, localAddress, this.#portControl),
    ]);
  }

  stop(): void {
    for (const socket of this.#sockets.splice(0)) socket.close();
  }

  async #listen(
    group: string,
    port: number,
    localAddress: string,
    onMessage: (datagram: Buffer, from: string) => void,
  ): Promise<void> {
    const socket = createSocket({ type: "udp4", reuseAddr: true });
    socket.on("message", (datagram, { address }) => onMessage(datagram, address));
    try {
      // Bound to the group, datagrams sent to this host alone are not heard: they are answers to others.
      socket.bind(port, group);
      await once(socket, "listening");
      socket.addMembership(group, localAddress);
      socket.on("error", () => undefined);
      this.#sockets.push(socket);
    } catch {
      socket.close();
    }
  }

  readonly #ssdp = (datagram: Buffer, from: string): void => {
    const message = parseSsdpMessage(datagram);
    if (message) this.#listeners.onSsdp(message, from);
  };

  readonly #portControl = (datagram: Buffer, from: string): void => {
    try {
      if (datagram[0] === 0) this.#listeners.onNatPmp(parseNatPmpAnswer(datagram), from);
      else this.#listeners.onPcp(parsePcpAnswer(datagram), from);
    } catch {
      // Noise, which anybody on the network can make.
    }
  };
}

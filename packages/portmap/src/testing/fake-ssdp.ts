import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { SSDP_GROUP } from "../upnp/ssdp-message.ts";
import type { FakeSettings } from "./fake-settings.ts";

/** The fake's SSDP: answers searches, announces, says goodbye. */
export class FakeSsdp {
  /** Searches that came. */
  searches = 0;
  bootId = 1;
  readonly #settings: FakeSettings;
  readonly #device: string;
  readonly #location: () => string;
  #socket: Socket | undefined;

  constructor(settings: FakeSettings, device: string, location: () => string) {
    this.#settings = settings;
    this.#device = device;
    this.#location = location;
  }

  /** @param port 0 for any; the same again after a restart */
  async start(port: number): Promise<void> {
    const { address } = this.#settings;
    const socket = createSocket({ type: "udp4", reuseAddr: true });
    socket.on("message", (datagram, { address: from, port: fromPort }) => this.#hear(datagram, from, fromPort));
    socket.bind(port, SSDP_GROUP);
    await once(socket, "listening");
    socket.addMembership(SSDP_GROUP, address);
    this.#socket = socket;
  }

  stop(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  get port(): number {
    return this.#socket?.address().port ?? 0;
  }

  /** To everybody, as often as a device that wants to be heard: once for each type. */
  async notify(kind: "alive" | "byebye" | "update", port: number, nextBootId?: number): Promise<void> {
    const next = nextBootId === undefined ? "" : `NEXTBOOTID.UPNP.ORG: ${nextBootId}\r\n`;
    for (const type of this.#types) {
      await this.#send(
        `NOTIFY * HTTP/1.1\r\nHOST: ${SSDP_GROUP}:1900\r\nNTS: ssdp:${kind}\r\nNT: ${type}\r\n` +
          `USN: ${this.#device}::${type}\r\n${kind === "byebye" ? "" : this.#about}${this.#boot}${next}\r\n`,
        port,
        SSDP_GROUP,
      );
    }
    if (nextBootId !== undefined) this.bootId = nextBootId;
  }

  #hear(datagram: Buffer, from: string, port: number): void {
    const text = datagram.toString();
    const target = /^ST: *(\S+)\r$/im.exec(text)?.[1];
    if (target === undefined || !text.startsWith("M-SEARCH * HTTP/1.1\r\n")) return;
    this.searches++;
    if (this.#settings.igd === 0 || !this.#types.includes(target)) return;
    void this.#send(
      `HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: ${target}\r\nEXT:\r\n` +
        `USN: ${this.#device}::${target}\r\n${this.#about}${this.#boot}\r\n`,
      port,
      from,
    );
  }

  get #types(): string[] {
    const versions = this.#settings.igd === 2 ? [1, 2] : [1];
    return versions.flatMap((version) => [
      `urn:schemas-upnp-org:device:InternetGatewayDevice:${version}`,
      `urn:schemas-upnp-org:service:WANIPConnection:${version}`,
    ]);
  }

  get #about(): string {
    return `SERVER: Fake UPnP/1.1\r\nLOCATION: ${this.#settings.location ?? this.#location()}\r\n`;
  }

  get #boot(): string {
    return this.#settings.announcesBootId ? `BOOTID.UPNP.ORG: ${this.bootId}\r\nCONFIGID.UPNP.ORG: 1\r\n` : "";
  }

  /** From the gateway's own address, which is what listeners go by. */
  async #send(text: string, port: number, to: string): Promise<void> {
    await sendFrom(this.#settings.address, Buffer.from(text), port, to);
  }
}

/** One datagram from that address, by that address' network where it goes to a group. */
export async function sendFrom(address: string, datagram: Buffer, port: number, to: string): Promise<void> {
  const socket = createSocket("udp4");
  try {
    socket.bind(0, address);
    await once(socket, "listening");
    socket.setMulticastInterface(address);
    await new Promise<void>((resolve) => socket.send(datagram, port, to, () => resolve()));
  } finally {
    socket.close();
  }
}

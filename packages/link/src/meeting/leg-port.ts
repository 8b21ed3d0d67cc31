import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import {
  canonicalIp,
  decodeLegHeader,
  formatHostPort,
  type HostPort,
  LEG_HEADER_BYTES,
  LEG_MAGIC,
  probeNonce,
  verifyLegHeader,
} from "@isthmus/protocol";
import type { Link } from "../link.ts";
import type { CarrierEvents } from "../udp/udp-session.ts";
import { KEEP_ALIVE_MS } from "./connect.ts";

/** A connection must show its header within this time. */
const HEADER_TIMEOUT_MS = 5000;
/** Connections without a header yet: in all, and from one address. Others are closed at once. */
const MOST_PENDING = 256;
const MOST_PENDING_PER_SOURCE = 32;
const SOCKET_BUFFER_BYTES = 1024 * 1024;

export interface LegPortOptions {
  /** Which link holds the keys of a generation. */
  find: (generation: string) => Link | undefined;
  /** The ISB's probe arrived: its nonce goes back over the session. */
  probed: (nonce: Buffer) => void;
  /** A connection or datagram was refused. */
  refused: () => void;
}

/**
 * The port where a reachable daemon takes direct legs and control connections of its peers, TCP and UDP under one number
 * (DESIGN section 4). Whoever does not start with a valid header is closed without a word.
 */
export class LegPort {
  readonly #options: LegPortOptions;
  readonly #sources = new Map<string, (datagram: Buffer) => void>();
  readonly #pending = new Map<string, number>();
  #pendingCount = 0;
  #tcp: Server | undefined;
  #udp: UdpSocket | undefined;

  constructor(options: LegPortOptions) {
    this.#options = options;
  }

  /**
   * Listens on all addresses, IPv4 and IPv6.
   * @param port 0 for any free one
   * @returns the port
   */
  async listen(port: number): Promise<number> {
    const tcp = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
    tcp.on("connection", (socket) => this.#accept(socket));
    tcp.listen({ port, host: "::", ipv6Only: false });
    await once(tcp, "listening").catch(async (error: NodeJS.ErrnoException) => {
      // A host without IPv6 has no `::` to listen on.
      if (error.code !== "EAFNOSUPPORT" && error.code !== "EADDRNOTAVAIL") throw error;
      tcp.listen({ port, host: "0.0.0.0" });
      await once(tcp, "listening");
    });
    this.#tcp = tcp;
    const address = tcp.address() as { port: number; family: string };
    const udp = createSocket({ type: address.family === "IPv6" ? "udp6" : "udp4" });
    udp.on("message", (datagram, source) =>
      this.#receive(datagram, { host: canonicalIp(source.address), port: source.port }),
    );
    udp.on("error", () => undefined);
    udp.bind(address.port);
    await once(udp, "listening");
    udp.setRecvBufferSize(SOCKET_BUFFER_BYTES);
    udp.setSendBufferSize(SOCKET_BUFFER_BYTES);
    this.#udp = udp;
    return address.port;
  }

  close(): void {
    this.#tcp?.close();
    this.#udp?.close();
    this.#sources.clear();
  }

  #accept(socket: Socket): void {
    const source = canonicalIp(socket.remoteAddress ?? "");
    const fromSource = this.#pending.get(source) ?? 0;
    socket.on("error", () => undefined);
    if (this.#pendingCount >= MOST_PENDING || fromSource >= MOST_PENDING_PER_SOURCE) {
      this.#options.refused();
      socket.resetAndDestroy();
      return;
    }
    this.#pendingCount++;
    this.#pending.set(source, fromSource + 1);
    let isPending = true;
    const settle = (): void => {
      if (!isPending) return;
      isPending = false;
      clearTimeout(timer);
      this.#pendingCount--;
      const left = this.#pending.get(source)! - 1;
      if (left === 0) this.#pending.delete(source);
      else this.#pending.set(source, left);
    };
    const timer = setTimeout(() => socket.destroy(), HEADER_TIMEOUT_MS);
    socket.once("close", settle);
    let first: Buffer = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      first = first.length === 0 ? chunk : Buffer.concat([first, chunk]);
      if (first.length < LEG_HEADER_BYTES) return;
      socket.off("data", onData);
      socket.off("end", onEnd);
      socket.pause();
      settle();
      const rest = first.subarray(LEG_HEADER_BYTES);
      if (rest.length > 0) socket.unshift(rest);
      this.#route(socket, first.subarray(0, LEG_HEADER_BYTES));
    };
    const onEnd = (): void => void socket.destroy();
    socket.on("data", onData);
    socket.on("end", onEnd);
    socket.resume();
  }

  #route(socket: Socket, bytes: Buffer): void {
    try {
      const header = decodeLegHeader(bytes);
      if (header.kind === "probe") {
        this.#options.probed(probeNonce(bytes));
        socket.end();
        socket.resume();
        return;
      }
      const link = this.#options.find(header.generation);
      const key = link?.stateOf(header.generation)?.generation.directKey;
      if (link && key && header.kind !== "also" && verifyLegHeader(bytes, key)) {
        socket.setKeepAlive(true, KEEP_ALIVE_MS);
        link.accept(socket, header);
        return;
      }
    } catch {
      // Not a header of ours: refused below, like a forged one.
    }
    this.#options.refused();
    socket.resetAndDestroy();
  }

  #receive(datagram: Buffer, source: HostPort): void {
    const key = formatHostPort(source);
    const isHeader = datagram.length === LEG_HEADER_BYTES && datagram.subarray(0, LEG_MAGIC.length).equals(LEG_MAGIC);
    if (!isHeader) {
      const take = this.#sources.get(key);
      if (take) take(datagram);
      else this.#options.refused();
      return;
    }
    try {
      const header = decodeLegHeader(datagram);
      const link = this.#options.find(header.generation);
      const directKey = link?.stateOf(header.generation)?.generation.directKey;
      if (!link || !directKey || !verifyLegHeader(datagram, directKey)) throw new Error("no link of ours");
      link.acceptDatagrams(header, (events) => this.#carrier(key, source, events));
    } catch {
      this.#options.refused();
    }
  }

  #carrier(key: string, source: HostPort, events: CarrierEvents) {
    const take = (datagram: Buffer): void => events.datagram(datagram);
    this.#sources.set(key, take);
    const host =
      this.#udp?.address().family === "IPv6" && !source.host.includes(":") ? `::ffff:${source.host}` : source.host;
    return {
      send: (datagram: Buffer) => this.#udp?.send(datagram, source.port, host),
      close: () => {
        if (this.#sources.get(key) === take) this.#sources.delete(key);
      },
    };
  }
}

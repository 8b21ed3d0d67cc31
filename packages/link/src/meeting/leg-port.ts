import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { type UdpPort, type UdpSockets, udpSockets } from "@isthmus/native/udp";
import {
  canonicalIp,
  decodeLegHeader,
  formatHostPort,
  type HostPort,
  LEG_HEADER_BYTES,
  LEG_MAGIC,
  type LegHeader,
  probeNonce,
  verifyLegHeader,
} from "@isthmus/protocol";
import type { Link } from "../link.ts";
import type { CarrierEvents } from "../udp/paths.ts";
import { KEEP_ALIVE_MS } from "./connect.ts";

/** A connection must show its header within this time. */
const HEADER_TIMEOUT_MS = 5000;
/**
 * Connections without a header yet: in all, and from one address, where a burst of a peer's opens arrives at once. Others
 * are closed.
 */
const MOST_HEADLESS = 2048;
const MOST_HEADLESS_PER_SOURCE = 512;
/** Probes passed on in a second: each becomes a message to the ISB, and anybody can send one. */
const MOST_PROBES_PER_SECOND = 5;
/** Tries to find a free port number that both TCP and UDP have. */
const PORT_TRIES = 20;

export interface LegPortOptions {
  /** Which link holds the keys of a generation. */
  find: (generation: string) => Link | undefined;
  /** The ISB's probe arrived: its nonce goes back over the session. */
  probed: (nonce: Buffer) => void;
  /** A connection or datagram was refused. */
  refused: () => void;
  /** By default the best that this process has. */
  sockets?: UdpSockets;
}

/**
 * The port where a reachable daemon takes direct legs and control connections of its peers, TCP and UDP under one number.
 * Whoever does not start with a valid header is closed without a word.
 */
export class LegPort {
  readonly #options: LegPortOptions;
  readonly #sources = new Map<string, (datagram: Buffer) => void>();
  /** Connections without a header yet, and how many there are from each address. */
  readonly #headless = new Set<Socket>();
  readonly #headlessFrom = new Map<string, number>();
  #probes = { second: 0, count: 0 };
  #tcp: Server | undefined;
  #udp: UdpPort | undefined;
  #isDualStack = false;

  constructor(options: LegPortOptions) {
    this.#options = options;
  }

  /**
   * Listens on all addresses, IPv4 and IPv6.
   * @param port 0 for any free one
   * @returns the port
   * @throws Error `EADDRINUSE` and the like
   */
  async listen(port: number): Promise<number> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#tryListen(port);
      } catch (error) {
        // A number that TCP found free may be taken in UDP: another one is tried, where any will do.
        const { code } = error as NodeJS.ErrnoException;
        if (code !== "EADDRINUSE" || port !== 0 || tries >= PORT_TRIES) throw error;
      }
    }
  }

  async #tryListen(port: number): Promise<number> {
    const tcp = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
    tcp.on("connection", (socket) => this.#accept(socket));
    tcp.listen({ port, host: "::", ipv6Only: false });
    await once(tcp, "listening").catch(async (error: NodeJS.ErrnoException) => {
      // A host without IPv6 has no `::` to listen on.
      if (error.code !== "EAFNOSUPPORT" && error.code !== "EADDRNOTAVAIL") throw error;
      tcp.listen({ port, host: "0.0.0.0" });
      await once(tcp, "listening");
    });
    // A connection that could not be accepted (no descriptors are left) is tried again by its peer.
    tcp.on("error", () => this.#options.refused());
    const address = tcp.address() as { port: number; family: string };
    const isDualStack = address.family === "IPv6";
    const at = { host: isDualStack ? "::" : "0.0.0.0", port: address.port };
    const { sockets = udpSockets } = this.#options;
    try {
      this.#udp = await sockets.bind(at, (datagram, source) =>
        this.#receive(datagram, { host: canonicalIp(source.host), port: source.port }),
      );
    } catch (error) {
      tcp.close();
      throw error;
    }
    this.#isDualStack = isDualStack;
    this.#tcp = tcp;
    return address.port;
  }

  close(): void {
    this.#tcp?.close();
    this.#udp?.close();
    this.#tcp = undefined;
    this.#udp = undefined;
    this.#sources.clear();
    for (const socket of this.#headless) socket.destroy();
  }

  #accept(socket: Socket): void {
    const source = canonicalIp(socket.remoteAddress ?? "");
    const fromSource = this.#headlessFrom.get(source) ?? 0;
    socket.on("error", () => undefined);
    if (this.#headless.size >= MOST_HEADLESS || fromSource >= MOST_HEADLESS_PER_SOURCE) {
      this.#options.refused();
      socket.resetAndDestroy();
      return;
    }
    this.#headless.add(socket);
    this.#headlessFrom.set(source, fromSource + 1);
    const settle = (): void => {
      if (!this.#headless.delete(socket)) return;
      clearTimeout(timer);
      const left = this.#headlessFrom.get(source)! - 1;
      if (left === 0) this.#headlessFrom.delete(source);
      else this.#headlessFrom.set(source, left);
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
    const header = readHeader(bytes);
    if (header?.kind === "probe") {
      this.#probed(probeNonce(bytes));
      socket.setTimeout(HEADER_TIMEOUT_MS, () => socket.destroy());
      socket.end();
      socket.resume();
      return;
    }
    const link = header && header.kind !== "also" && this.#ownerOf(header, bytes);
    if (!link) {
      this.#options.refused();
      socket.resetAndDestroy();
      return;
    }
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    link.accept(socket, header);
  }

  /** The link whose keys made the header, if any. */
  #ownerOf(header: LegHeader, bytes: Buffer): Link | undefined {
    const link = this.#options.find(header.generation);
    const key = link?.stateOf(header.generation)?.generation.directKey;
    return key && verifyLegHeader(bytes, key) ? link : undefined;
  }

  #probed(nonce: Buffer): void {
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#probes.second) this.#probes = { second, count: 0 };
    if (++this.#probes.count > MOST_PROBES_PER_SECOND) this.#options.refused();
    else this.#options.probed(nonce);
  }

  #receive(datagram: Buffer, source: HostPort): void {
    // Nothing can be sent to port 0 (RFC 768), and anybody may claim it.
    if (source.port === 0) {
      this.#options.refused();
      return;
    }
    const key = formatHostPort(source);
    const isHeader = datagram.length === LEG_HEADER_BYTES && datagram.subarray(0, LEG_MAGIC.length).equals(LEG_MAGIC);
    if (!isHeader) {
      const take = this.#sources.get(key);
      if (take) take(datagram);
      else this.#options.refused();
      return;
    }
    const header = readHeader(datagram);
    const link = header && this.#ownerOf(header, datagram);
    if (link) link.acceptDatagrams(header, (events) => this.#carrier(key, source, events));
    else this.#options.refused();
  }

  #carrier(key: string, source: HostPort, events: CarrierEvents) {
    const take = (datagram: Buffer): void => events.datagram(datagram);
    this.#sources.set(key, take);
    const host = this.#isDualStack && !source.host.includes(":") ? `::ffff:${source.host}` : source.host;
    const to = { host, port: source.port };
    return {
      send: (datagram: Buffer) => this.#udp?.send(datagram, to),
      close: () => {
        if (this.#sources.get(key) === take) this.#sources.delete(key);
      },
    };
  }
}

function readHeader(bytes: Buffer): LegHeader | undefined {
  try {
    return decodeLegHeader(bytes);
  } catch {
    return undefined;
  }
}

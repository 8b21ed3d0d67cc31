import { once } from "node:events";
import { createServer as createHttpServer, type Server as HttpServer, type IncomingMessage } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer, isIP, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { LEG_SOCKETS, resetSocket } from "@isthmus/datapath";
import { type Code, isLoopback, LEG_HEADER_BYTES, sourcePrefix } from "@isthmus/protocol";
import type { PendingConnections } from "./pending-connections.ts";
import { type KnownGreeting, readGreeting } from "./read-greeting.ts";

export interface FrontDoorOptions {
  /** Local addresses. */
  addresses: readonly string[];
  /** 0: any. */
  port: number;
  /** PEM texts. */
  certificate: { cert: string; key: string };
  /** Takes sessions without TLS from everywhere, not from loopback alone. */
  insecure: boolean;
  pending: PendingConnections;
  greetingMs: number;
  handshakeMs: number;
  /** A leg: its socket paused behind the header; `settled` is to be called when it is no longer pending. */
  onLeg: (socket: Socket, header: Buffer, settled: () => void) => void;
  onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  countRefused: (code: Code) => void;
}

/** The one port of an IST, for sessions and for legs: told apart by their first bytes. */
export class FrontDoor {
  readonly #options: FrontDoorOptions;
  readonly #servers: Server[] = [];
  readonly #https: HttpServer;
  readonly #http: HttpServer;
  /** What is to be called when a connection in the hands of an HTTP server is a session, by its peer. */
  readonly #handshakes = new Map<string, () => void>();
  readonly #pending = new Set<Socket>();

  constructor(options: FrontDoorOptions) {
    this.#options = options;
    const { cert, key } = options.certificate;
    this.#https = createHttpsServer({ cert, key });
    this.#http = createHttpServer();
    this.#https.on("tlsClientError", () => options.countRefused("bad-message"));
    for (const server of [this.#https, this.#http]) {
      server.on("upgrade", this.#onUpgrade);
      server.on("request", (_request, response) => {
        options.countRefused("bad-request");
        response.writeHead(404, { connection: "close" }).end();
      });
    }
  }

  /**
   * Listens on all addresses.
   * @returns the port
   * @throws Error that says which address and port cannot be had
   */
  async open(): Promise<number> {
    const { addresses } = this.#options;
    let { port } = this.#options;
    const ipv6Only = addresses.some((address) => isIP(address) === 4);
    try {
      for (const host of addresses) port = await this.#listen(host, port, ipv6Only);
    } catch (error) {
      this.close();
      throw error;
    }
    return port;
  }

  /** Takes no further connections, and cuts those that are nothing yet. */
  close(): void {
    for (const server of this.#servers) server.close();
    for (const socket of [...this.#pending]) resetSocket(socket);
  }

  async #listen(host: string, port: number, ipv6Only: boolean): Promise<number> {
    const server = createServer(LEG_SOCKETS, this.#onConnection);
    this.#servers.push(server);
    server.listen({ host, port, ipv6Only, exclusive: true });
    try {
      await once(server, "listening");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const hint = code === "EACCES" ? "; ports below 1024 need root or CAP_NET_BIND_SERVICE" : "";
      throw new Error(`cannot listen on ${host} port ${port}: ${code}${hint}`, { cause: error });
    }
    // Failing to accept one connection is no reason to stop.
    server.on("error", () => this.#options.countRefused("too-many-opens"));
    return (server.address() as AddressInfo).port;
  }

  readonly #onConnection = (socket: Socket): void => {
    const { pending, greetingMs, countRefused } = this.#options;
    socket.on("error", ignore);
    const { remoteAddress } = socket;
    // Without an address the peer has reset it already.
    const source = remoteAddress === undefined ? undefined : sourcePrefix(remoteAddress);
    if (source === undefined || !pending.enter(source)) {
      if (source !== undefined) countRefused("too-many-opens");
      resetSocket(socket);
      return;
    }
    let isSettled = false;
    const settled = (): void => {
      if (isSettled) return;
      isSettled = true;
      pending.leave(source);
      this.#pending.delete(socket);
    };
    this.#pending.add(socket);
    socket.once("close", settled);
    readGreeting(socket, greetingMs, (greeting, bytes) => this.#take(socket, greeting, bytes, settled));
  };

  #take(socket: Socket, greeting: KnownGreeting, bytes: Buffer, settled: () => void): void {
    if (greeting === "leg") {
      const rest = bytes.subarray(LEG_HEADER_BYTES);
      if (rest.length > 0) socket.unshift(rest);
      this.#options.onLeg(socket, bytes.subarray(0, LEG_HEADER_BYTES), settled);
    } else if (greeting === "tls") this.#shakeHands(socket, this.#https, bytes, settled);
    else if (greeting === "http" && (this.#options.insecure || isLoopback(socket.remoteAddress ?? ""))) {
      this.#shakeHands(socket, this.#http, bytes, settled);
    } else {
      this.#options.countRefused("bad-leg-header");
      resetSocket(socket);
    }
  }

  /** Hands a connection to an HTTP server as if that had accepted it. */
  #shakeHands(socket: Socket, server: HttpServer, bytes: Buffer, settled: () => void): void {
    const peer = peerOf(socket);
    const timer = setTimeout(() => {
      this.#options.countRefused("login-timeout");
      resetSocket(socket);
    }, this.#options.handshakeMs);
    const done = (): void => {
      clearTimeout(timer);
      if (this.#handshakes.get(peer) === done) this.#handshakes.delete(peer);
      settled();
    };
    this.#handshakes.set(peer, done);
    socket.once("close", done);
    socket.unshift(bytes);
    server.emit("connection", socket);
    // A TLS server reads the socket's handle itself.
    if (server === this.#http) socket.resume();
  }

  readonly #onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    this.#handshakes.get(peerOf(request.socket))?.();
    this.#options.onUpgrade(request, socket, head);
  };
}

/** Names a connection, under TLS or not, while it is open. */
function peerOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}

function ignore(): void {}

import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { type UdpAddress, type UdpPort, type UdpSockets, udpSockets } from "@isthmus/native/udp";
import { formatHostPort, type HostPort, IsthmusError } from "@isthmus/protocol";

/** Tries to find a free port number that both TCP and UDP have. */
const PORT_TRIES = 20;
/** Clients that stop sending are forgotten by the link's flows; this bounds how many one listener knows. */
const MOST_CLIENTS = 4096;

/** One flow of a UDP client, as the listener's owner gives it. */
export interface ClientFlow {
  send(payload: Buffer): void;
  close(): void;
}

export interface ListenerEvents {
  connection(socket: Socket): void;
  /**
   * A new UDP client. `deliver` sends to it, `forget` lets the next datagram of it be a new client.
   * @returns nothing when there is nowhere to send: the datagram is dropped
   */
  client(deliver: (payload: Buffer) => void, forget: () => void): ClientFlow | undefined;
}

/**
 * Where programs on this host (or in its LAN, if so asked) reach a remote service: one port for TCP, UDP or both.
 */
export class LocalListener {
  readonly address: HostPort;
  readonly #tcp: Server | undefined;
  readonly #udp: UdpPort | undefined;
  readonly #clients = new Map<string, ClientFlow>();
  /** The newest source, and its key among the clients. */
  #newest: { source: UdpAddress; key: string } | undefined;
  #isClosed = false;

  private constructor(address: HostPort, tcp: Server | undefined, udp: UdpPort | undefined) {
    this.address = address;
    this.#tcp = tcp;
    this.#udp = udp;
  }

  /**
   * @param wanted port 0: any free one
   * @param sockets by default the best that this process has
   * @throws IsthmusError `port-taken`, `bad-request`
   */
  static async open(
    wanted: HostPort,
    protos: { tcp: boolean; udp: boolean },
    events: ListenerEvents,
    sockets: UdpSockets = udpSockets,
  ): Promise<LocalListener> {
    for (let tries = 1; ; tries++) {
      try {
        return await LocalListener.#tryOpen(wanted, protos, events, sockets);
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        // A port that TCP found free may be taken in UDP: another one is tried, where any will do.
        if (code === "EADDRINUSE" && wanted.port === 0 && tries < PORT_TRIES) continue;
        const text = formatHostPort(wanted);
        if (code === "EADDRINUSE") throw new IsthmusError("port-taken", `${text} is in use`, { cause: error });
        throw new IsthmusError("bad-request", `cannot listen on ${text}: ${message}`, { cause: error });
      }
    }
  }

  static async #tryOpen(
    { host, port }: HostPort,
    protos: { tcp: boolean; udp: boolean },
    events: ListenerEvents,
    sockets: UdpSockets,
  ): Promise<LocalListener> {
    let tcp: Server | undefined;
    let chosen = port;
    if (protos.tcp) {
      tcp = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, (socket) =>
        events.connection(socket),
      );
      tcp.listen({ host, port });
      await once(tcp, "listening");
      // A connection that could not be accepted (no descriptors are left): its client sees that itself.
      tcp.on("error", () => undefined);
      chosen = (tcp.address() as { port: number }).port;
    }
    if (!protos.udp) return new LocalListener({ host, port: chosen }, tcp, undefined);
    try {
      let take: ((payload: Buffer, source: UdpAddress) => void) | undefined;
      const udp = await sockets.bind({ host, port: chosen }, (payload, source) => take?.(payload, source));
      const listener = new LocalListener({ host, port: udp.port }, tcp, udp);
      take = (payload, source) => listener.#receive(payload, source, events);
      return listener;
    } catch (error) {
      tcp?.close();
      throw error;
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#tcp?.close();
    this.#udp?.close();
    for (const flow of this.#clients.values()) flow.close();
    this.#clients.clear();
  }

  #receive(payload: Buffer, source: UdpAddress, events: ListenerEvents): void {
    // RFC 768: no port, no answer wanted. Nothing can be sent there, and anybody may claim it.
    if (source.port === 0) return;
    const key = this.#keyOf(source);
    let flow = this.#clients.get(key);
    if (!flow) {
      let made: ClientFlow | undefined;
      made = events.client(
        (answer) => this.#answer(answer, source),
        () => {
          if (this.#clients.get(key) === made) this.#clients.delete(key);
        },
      );
      if (!made) return;
      if (this.#clients.size >= MOST_CLIENTS) {
        const [oldest, gone] = this.#clients.entries().next().value!;
        this.#clients.delete(oldest);
        gone.close();
      }
      this.#clients.set(key, made);
      flow = made;
    }
    flow.send(payload);
  }

  #keyOf(source: UdpAddress): string {
    if (this.#newest?.source !== source) this.#newest = { source, key: formatHostPort(source) };
    return this.#newest.key;
  }

  #answer(payload: Buffer, client: UdpAddress): void {
    if (!this.#isClosed) this.#udp?.send(payload, client);
  }
}

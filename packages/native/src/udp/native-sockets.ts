import { isIP } from "node:net";
import type { UdpEngine, UdpHandle } from "./engine.ts";
import { nodeUdpSockets } from "./node-sockets.ts";
import { SOCKET_BUFFER_BYTES, type UdpAddress, type UdpConnection, type UdpPort, type UdpSockets } from "./sockets.ts";

/** Datagrams that are sent in one call; more in one turn of the event loop take several. */
const MOST_QUEUED = 64;

type OnDatagram = (datagram: Buffer, from: UdpAddress) => void;

/** One socket. What is sent in one turn of the event loop goes together at its end. */
class NativeUdpSocket implements UdpConnection, UdpPort {
  readonly #engine: UdpEngine;
  readonly #handle: UdpHandle;
  readonly #peer: UdpAddress | undefined;
  readonly #onDatagram: OnDatagram;
  readonly #flushLater = (): void => this.#flush();
  #queue: Uint8Array[] = [];
  /** Of all that is in the queue. */
  #to: UdpAddress | undefined;
  /** The newest source: mostly the next one is the same. */
  #source: UdpAddress | undefined;
  #isClosed = false;

  /** @throws Error with the system's code */
  constructor(engine: UdpEngine, address: UdpAddress, isConnected: boolean, onDatagram: OnDatagram) {
    this.#engine = engine;
    this.#peer = isConnected ? address : undefined;
    this.#onDatagram = onDatagram;
    const { host, port } = address;
    this.#handle = engine.open(host, port, isConnected, SOCKET_BUFFER_BYTES, (bytes, count, sources) =>
      this.#receive(bytes, count, sources),
    );
  }

  get port(): number {
    return this.#engine.port(this.#handle);
  }

  send(datagram: Uint8Array, to: UdpAddress | undefined = this.#peer): void {
    if (this.#isClosed) return;
    if (this.#queue.length > 0 && !isSame(to, this.#to)) this.#flush();
    if (this.#queue.length === 0) {
      this.#to = to;
      queueMicrotask(this.#flushLater);
    }
    this.#queue.push(datagram);
    if (this.#queue.length === MOST_QUEUED) this.#flush();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#flush();
    this.#isClosed = true;
    this.#engine.close(this.#handle);
  }

  #flush(): void {
    if (this.#queue.length === 0) return;
    const datagrams = this.#queue;
    this.#queue = [];
    this.#engine.send(this.#handle, datagrams, this.#to?.host, this.#to?.port);
  }

  #receive(many: Buffer | undefined, count: number, sources: readonly (string | number)[] = []): void {
    const { ends, few } = this.#engine;
    const bytes = many ?? Buffer.from(few.subarray(0, ends[count - 1]!));
    let start = 0;
    let from = this.#peer;
    let next = 0;
    let changeAt = 0;
    for (let n = 0; n < count && !this.#isClosed; n++) {
      if (!this.#peer && n === changeAt) {
        from = this.#sourceOf(sources[next] as string, sources[next + 1] as number);
        changeAt += sources[next + 2] as number;
        next += 3;
      }
      const end = ends[n]!;
      this.#onDatagram(bytes.subarray(start, end), from!);
      start = end;
    }
  }

  #sourceOf(host: string, port: number): UdpAddress {
    if (this.#source?.host !== host || this.#source.port !== port) this.#source = { host, port };
    return this.#source;
  }
}

function isSame(a: UdpAddress | undefined, b: UdpAddress | undefined): boolean {
  return a === b || (a?.host === b?.host && a?.port === b?.port);
}

/** Of the add-on: many datagrams with one call, and merged by the kernel (UDP_GRO, UDP_SEGMENT) where it does. */
export class NativeUdpSockets implements UdpSockets {
  readonly name = "native";
  readonly #engine: UdpEngine;

  constructor(engine: UdpEngine) {
    this.#engine = engine;
  }

  connect(
    to: UdpAddress,
    events: { readonly datagram: (datagram: Buffer) => void; readonly ready: () => void },
  ): UdpConnection {
    // Names are looked up by Node.
    if (isIP(to.host) === 0) return nodeUdpSockets.connect(to, events);
    let socket: NativeUdpSocket;
    try {
      socket = new NativeUdpSocket(this.#engine, to, true, (datagram) => events.datagram(datagram));
    } catch {
      return { send: () => undefined, close: () => undefined };
    }
    let state: "starting" | "ready" | "closed" = "starting";
    queueMicrotask(() => {
      if (state === "closed") return;
      state = "ready";
      events.ready();
    });
    return {
      send: (datagram) => {
        if (state === "ready") socket.send(datagram);
      },
      close: () => {
        state = "closed";
        socket.close();
      },
    };
  }

  async bind(at: UdpAddress, onDatagram: OnDatagram): Promise<UdpPort> {
    if (isIP(at.host) === 0) return nodeUdpSockets.bind(at, onDatagram);
    return new NativeUdpSocket(this.#engine, at, false, onDatagram);
  }
}

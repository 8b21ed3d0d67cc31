import type { Socket } from "node:dgram";
import { once } from "node:events";
import type { TestHost } from "./hosts.ts";

/** A UDP socket as a test holds it. */
export class TestDatagrams {
  readonly socket: Socket;
  readonly #host: TestHost;
  readonly #received: Buffer[] = [];

  static async on(host: TestHost): Promise<TestDatagrams> {
    return new TestDatagrams(host, await host.bind());
  }

  constructor(host: TestHost, socket: Socket) {
    this.#host = host;
    this.socket = socket;
    socket.on("message", (message) => this.#received.push(message));
  }

  async send(port: number, datagram: Uint8Array | string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.socket.send(datagram, port, this.#host.ist, (error) => (error ? reject(error) : resolve()));
    await promise;
  }

  /** The next datagram that arrived. */
  async next(): Promise<Buffer> {
    while (this.#received.length === 0) await once(this.socket, "message", { signal: AbortSignal.timeout(10_000) });
    return this.#received.shift()!;
  }

  /** Datagrams that arrived and were not asked for. */
  get waiting(): number {
    return this.#received.length;
  }

  close(): void {
    this.socket.close();
  }
}

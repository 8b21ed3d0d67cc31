import type { RemoteInfo, Socket } from "node:dgram";
import { type Code, canonicalIp, type HostPort, type Side } from "@isthmus/protocol";
import type { CellHost } from "./cell-host.ts";
import { DatagramSplice } from "./datagram-splice.ts";
import { UdpHalf } from "./udp-half.ts";

/** Who sends and gets a side's datagrams, and through which of our sockets. */
interface Source {
  address: string;
  port: number;
  socket: Socket;
}

/** The UDP legs of a cell, whoever moves their datagrams. */
export interface UdpLegs {
  /** The allocation expects other sources now. */
  expectAnew(): void;
  close(code: Code): void;
}

/**
 * The UDP legs of one cell. The first datagram of an expected source makes it the side's source; once both sides have
 * one, datagrams pass both ways, unchanged. The cell never sends anything of its own.
 */
export class UdpCell implements UdpLegs {
  readonly #host: CellHost;
  readonly #cell: number;
  readonly #sources: [Source | undefined, Source | undefined] = [undefined, undefined];
  #traffic = { bytes: [0, 0] as [number, number], lastActive: 0 };
  #splice: DatagramSplice | undefined;
  #half: UdpHalf | undefined;
  #lastHeard = 0;

  constructor(host: CellHost, cell: number) {
    this.#host = host;
    this.#cell = cell;
  }

  readonly receive = (side: Side, socket: Socket, datagram: Buffer, from: RemoteInfo): void => {
    const source = this.#sources[side];
    if (source === undefined) this.#first(side, { address: from.address, port: from.port, socket });
    else if (source.port !== from.port || source.address !== from.address) {
      this.#host.drops.count(this.#host.expects(side, from.address) ? "foreign" : "stranger");
      return;
    }
    if (this.#splice) this.#forward(this.#splice, side, datagram);
    else if (this.#sources[side]) {
      this.#lastHeard = performance.now();
      this.#host.drops.count("early");
    }
  };

  /** Each datagram of a new source is looked at when it comes. */
  expectAnew(): void {}

  close(code: Code): void {
    if (this.#splice) this.#splice.end(code);
    else this.#forgetHalf(code);
  }

  /** A datagram of a side that has no source so far. */
  #first(side: Side, source: Source): void {
    const { account, drops } = this.#host;
    const other = this.#sources[side === 0 ? 1 : 0];
    // Port 0 is no port to answer to (RFC 768): sending there is an error, and anybody may claim it.
    if (source.port === 0 || !this.#host.expects(side, source.address)) {
      drops.count("stranger");
      return;
    }
    if (other && account.isFull) {
      drops.count("splice-limit");
      return;
    }
    this.#sources[side] = source;
    if (other) this.#pair();
    else {
      this.#half = new UdpHalf(
        this.#host,
        this.#cell,
        () => this.#lastHeard,
        () => this.#forgetHalf("no-peer-leg"),
      );
      this.#half.start(side, hostPort(source));
    }
  }

  #pair(): void {
    this.#half?.pair();
    this.#half = undefined;
    this.#traffic = { bytes: [0, 0], lastActive: performance.now() };
    this.#splice = new DatagramSplice({
      host: this.#host,
      cell: this.#cell,
      sources: [hostPort(this.#sources[0]!), hostPort(this.#sources[1]!)],
      traffic: this.#traffic,
      onEnd: () => {
        this.#splice = undefined;
        this.#forgetSources();
      },
    });
    this.#splice.start();
  }

  #forward(splice: DatagramSplice, side: Side, datagram: Buffer): void {
    const { account, drops } = this.#host;
    const { bytes } = account.limits;
    if (bytes > 0 && splice.bytes + datagram.length > bytes) {
      splice.end("byte-limit");
      return;
    }
    if (!account.rate.spend(datagram.length, true)) {
      drops.count("rate");
      return;
    }
    this.#traffic.lastActive = performance.now();
    this.#traffic.bytes[side] += datagram.length;
    const { socket, port, address } = this.#sources[side === 0 ? 1 : 0]!;
    socket.send(datagram, port, address, this.#onSent);
  }

  readonly #onSent = (error: Error | null): void => {
    if (error) this.#host.drops.count("unsendable");
  };

  #forgetHalf(code: Code): void {
    const half = this.#half;
    this.#half = undefined;
    this.#forgetSources();
    half?.end(code);
  }

  #forgetSources(): void {
    this.#sources[0] = undefined;
    this.#sources[1] = undefined;
  }
}

function hostPort({ address, port }: Source): HostPort {
  return { host: canonicalIp(address), port };
}

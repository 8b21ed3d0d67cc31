import type { RemoteInfo, Socket } from "node:dgram";
import { type Code, canonicalIp, type HostPort, type Side } from "@isthmus/protocol";
import type { SpliceDump } from "../data-path.ts";
import type { SpliceMember } from "../splice/splice-account.ts";
import { type CellHost, halfClosed } from "./cell-host.ts";

/** Who sends and gets a side's datagrams, and through which of our sockets. */
interface Source {
  address: string;
  port: number;
  socket: Socket;
}

/**
 * The UDP legs of one cell. The first datagram of an expected source makes it the side's source; once both sides have
 * one, datagrams pass both ways, unchanged. The cell never sends anything of its own.
 */
export class UdpCell {
  readonly #host: CellHost;
  readonly #cell: number;
  readonly #sources: [Source | undefined, Source | undefined] = [undefined, undefined];
  #splice: DatagramSplice | undefined;
  #lastHeard = 0;
  #halfTimer: NodeJS.Timeout | undefined;

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

  close(code: Code): void {
    if (this.#splice) this.#splice.end(code);
    else this.#forgetHalf(code);
  }

  /** A datagram of a side that has no source so far. */
  #first(side: Side, source: Source): void {
    const { allocation, account, drops } = this.#host;
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
    if (other) {
      this.#pair();
      return;
    }
    this.#host.countHalves(1);
    this.#host.emit({ event: "half", allocation, cell: this.#cell, proto: "udp", side, source: hostPort(source) });
    this.#halfTimer = setTimeout(this.#expireHalf, this.#host.udpIdleMs);
  }

  #pair(): void {
    const { allocation, account, splicer, tally, udpIdleMs } = this.#host;
    const at = { allocation, cell: this.#cell, proto: "udp" } as const;
    clearTimeout(this.#halfTimer);
    this.#host.countHalves(-1);
    const splice = splicer.nextId();
    const sources = [hostPort(this.#sources[0]!), hostPort(this.#sources[1]!)] as const;
    const member = new DatagramSplice(splice, this.#cell, sources, udpIdleMs, (code) => {
      account.leave(member);
      this.#splice = undefined;
      this.#sources[0] = undefined;
      this.#sources[1] = undefined;
      tally.splices--;
      tally.udpSplices--;
      tally.countClosed(code);
      this.#host.emit({ event: "closed", ...at, splice, code });
    });
    this.#splice = member;
    account.enter(member);
    tally.splices++;
    tally.udpSplices++;
    this.#host.emit({ event: "paired", ...at, splice });
    this.#host.emit({ event: "established", ...at, splice });
  }

  #forward(splice: DatagramSplice, side: Side, datagram: Buffer): void {
    const { account, drops, tally } = this.#host;
    const now = performance.now();
    const { bytes } = account.limits;
    if (bytes > 0 && splice.bytes[0] + splice.bytes[1] + datagram.length > bytes) {
      splice.end("byte-limit");
      return;
    }
    if (!account.rate.spend(datagram.length, true)) {
      drops.count("rate");
      return;
    }
    splice.lastActive = now;
    splice.bytes[side] += datagram.length;
    tally.countBytes(datagram.length);
    const { socket, port, address } = this.#sources[side === 0 ? 1 : 0]!;
    socket.send(datagram, port, address, this.#onSent);
  }

  readonly #onSent = (error: Error | null): void => {
    if (error) this.#host.drops.count("unsendable");
  };

  readonly #expireHalf = (): void => {
    const leftMs = this.#lastHeard + this.#host.udpIdleMs - performance.now();
    if (leftMs > 0) this.#halfTimer = setTimeout(this.#expireHalf, Math.ceil(leftMs));
    else this.#forgetHalf("no-peer-leg");
  };

  #forgetHalf(code: Code): void {
    if (!this.#sources[0] && !this.#sources[1]) return;
    clearTimeout(this.#halfTimer);
    this.#sources[0] = undefined;
    this.#sources[1] = undefined;
    halfClosed(this.#host, this.#cell, "udp", code);
  }
}

/** A pair of sources, held to the allocation's limits like any splice. */
class DatagramSplice implements SpliceMember {
  readonly since = performance.now();
  lastActive = this.since;
  readonly ownIdleMs: number;
  readonly bytes: [number, number] = [0, 0];
  readonly #id: number;
  readonly #cell: number;
  readonly #sources: readonly [HostPort, HostPort];
  readonly end: (code: Code) => void;

  constructor(
    id: number,
    cell: number,
    sources: readonly [HostPort, HostPort],
    idleMs: number,
    end: (code: Code) => void,
  ) {
    this.#id = id;
    this.#cell = cell;
    this.#sources = sources;
    this.ownIdleMs = idleMs;
    this.end = end;
  }

  dump(now: number): SpliceDump {
    return {
      splice: this.#id,
      cell: this.#cell,
      proto: "udp",
      sources: this.#sources,
      bytes: [...this.bytes],
      ageMs: now - this.since,
      idleMs: now - this.lastActive,
    };
  }
}

function hostPort({ address, port }: Source): HostPort {
  return { host: canonicalIp(address), port };
}

import type { DatagramCell, DatagramEvent, DatagramRelay, DatagramSocket } from "@isthmus/native/datagrams";
import type { PumpAccount } from "@isthmus/native/pump";
import type { Code, HostPort, Side } from "@isthmus/protocol";
import type { CellHost } from "./cell-host.ts";
import { DatagramSplice } from "./datagram-splice.ts";
import type { UdpLegs } from "./udp-cell.ts";
import { UdpHalf } from "./udp-half.ts";

const SIDES = [0, 1] as const;

/**
 * The UDP legs of one cell whose datagrams the native relay moves, by the rules of `UdpCell`: here is decided who may
 * meet, and kept who has.
 */
export class RelayedUdpCell implements UdpLegs {
  readonly #host: CellHost;
  readonly #number: number;
  readonly #cell: DatagramCell;
  readonly #sources: [HostPort | undefined, HostPort | undefined] = [undefined, undefined];
  #splice: DatagramSplice | undefined;
  #half: UdpHalf | undefined;
  /** The relay has ended the splice by itself. */
  #isEmpty = false;

  /** @throws Error of a source that is no address, or with the system's code; the sockets stay the caller's then */
  constructor(
    host: CellHost,
    number: number,
    relay: DatagramRelay,
    account: PumpAccount,
    sockets: readonly [readonly DatagramSocket[], readonly DatagramSocket[]],
  ) {
    this.#host = host;
    this.#number = number;
    const sides = [
      { sockets: sockets[0], sources: this.#expected(0) },
      { sockets: sockets[1], sources: this.#expected(1) },
    ] as const;
    this.#cell = relay.add(account, sides, (event) => this.#take(event));
    host.drops.enter(this.#cell);
  }

  expectAnew(): void {
    for (const side of SIDES) this.#cell.expect(side, this.#expected(side));
  }

  close(code: Code): void {
    // The ports are free before anybody is told.
    this.#cell.remove();
    this.#host.drops.leave(this.#cell);
    if (this.#splice) this.#splice.end(code);
    else this.#forgetHalf(code);
  }

  /** As the relay wants them. */
  #expected(side: Side): string[] {
    return Array.from(this.#host.sources[side], (prefix) => prefix.replace("/64", ""));
  }

  #take({ event, side, source }: DatagramEvent): void {
    switch (event) {
      case "half":
        this.#sources[side] = source;
        this.#half = new UdpHalf(
          this.#host,
          this.#number,
          () => this.#cell.lastHeard,
          () => this.#forgetHalf("no-peer-leg"),
        );
        this.#half.start(side, source);
        break;
      case "meeting":
        this.#sources[side] = source;
        this.#meet();
        break;
      case "byte-limit":
        this.#isEmpty = true;
        this.#splice?.end("byte-limit");
        break;
    }
  }

  #meet(): void {
    const mayMeet = !this.#host.account.isFull;
    this.#cell.answer(mayMeet);
    if (!mayMeet) return;
    this.#half?.pair();
    this.#half = undefined;
    this.#isEmpty = false;
    this.#splice = new DatagramSplice({
      host: this.#host,
      cell: this.#number,
      sources: [this.#sources[0]!, this.#sources[1]!],
      traffic: this.#cell,
      onEnd: () => {
        this.#splice = undefined;
        // What came since then is not to be forgotten.
        if (!this.#isEmpty) this.#cell.forget();
      },
    });
    this.#splice.start();
  }

  #forgetHalf(code: Code): void {
    const half = this.#half;
    this.#half = undefined;
    this.#cell.forget();
    half?.end(code);
  }
}

import type { Code, HostPort, Side } from "@isthmus/protocol";
import { type CellHost, halfClosed } from "./cell-host.ts";

/** A source that waits for one of the other side: counted, announced, and forgotten when it has been silent for long. */
export class UdpHalf {
  readonly #host: CellHost;
  readonly #cell: number;
  readonly #lastHeard: () => number;
  readonly #onExpired: () => void;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param lastHeard when it sent something last, of `performance.now()`
   * @param onExpired it has been silent for too long; `end` is to be called
   */
  constructor(host: CellHost, cell: number, lastHeard: () => number, onExpired: () => void) {
    this.#host = host;
    this.#cell = cell;
    this.#lastHeard = lastHeard;
    this.#onExpired = onExpired;
  }

  /** Whoever hears of it may end it. */
  start(side: Side, source: HostPort): void {
    const { allocation, udpIdleMs } = this.#host;
    this.#timer = setTimeout(this.#look, udpIdleMs);
    this.#host.countHalves(1);
    this.#host.emit({ event: "half", allocation, cell: this.#cell, proto: "udp", side, source });
  }

  /** The other one came: it is part of a splice now. */
  pair(): void {
    clearTimeout(this.#timer);
    this.#host.countHalves(-1);
  }

  end(code: Code): void {
    clearTimeout(this.#timer);
    halfClosed(this.#host, this.#cell, "udp", code);
  }

  readonly #look = (): void => {
    const leftMs = this.#lastHeard() + this.#host.udpIdleMs - performance.now();
    if (leftMs > 0) this.#timer = setTimeout(this.#look, Math.ceil(leftMs));
    else this.#onExpired();
  };
}

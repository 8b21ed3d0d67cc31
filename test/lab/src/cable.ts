import { DelayLine, type DelaySettings, type Direction } from "./delay-line.ts";
import { LabError } from "./lab-error.ts";
import type { Node } from "./node.ts";

/** One end of a cable: a network interface of a node. */
export interface CableEnd {
  node: Node;
  device: string;
  /**
   * The device's number, unique in the lab: where both ends of a veth pair have the same one, each in its namespace,
   * Linux takes them for one device and tells of their carrier only a second later.
   */
  index: number;
  mac: string;
}

/** How a node hangs on its upstream. Without any of these the cable is a veth pair: fast, no delay. */
export interface CableOptions {
  /** One way, in both directions: a round trip takes twice as long. */
  delayMs?: number;
  /** Instead of `delayMs`, or beside it: what is different in one direction, or more than a delay. */
  out?: Partial<DelaySettings>;
  in?: Partial<DelaySettings>;
  /** Decides which packets a lossy delay line loses. */
  seed?: number;
  /** Of both ends, in bytes. Default: 1500, and a delay line carries no more. */
  mtu?: number;
}

/** What joins a node (near end) to its upstream (far end). */
export class Cable {
  readonly near: CableEnd;
  readonly far: CableEnd;
  readonly options: CableOptions;
  /** Set once laid, where the cable has a delay, a loss or a rate. */
  delayLine: DelayLine | undefined;

  constructor(near: CableEnd, far: CableEnd, options: CableOptions) {
    this.near = near;
    this.far = far;
    this.options = options;
    if (this.isDelayLine && this.#mtu > MTU) throw new LabError(`a delay line has no MTU above ${MTU}`);
  }

  get isDelayLine(): boolean {
    const { delayMs, out, in: into } = this.options;
    return delayMs !== undefined || out !== undefined || into !== undefined;
  }

  /** What one `ip -batch` makes of a plain cable. */
  get batchLines(): string[] {
    if (this.isDelayLine) return [];
    const { near, far } = this;
    const settings = ({ index, mac, node }: CableEnd) =>
      `index ${index} address ${mac} mtu ${this.#mtu} netns ${node.netns}`;
    return [`link add ${near.device} ${settings(near)} type veth peer name ${far.device} ${settings(far)}`];
  }

  /** Starts the delay line, if the cable is one. Both namespaces exist by now. */
  async startDelayLine(): Promise<void> {
    if (!this.isDelayLine) return;
    this.delayLine = await DelayLine.start(this.near, this.far, this.options.seed ?? 1);
    await Promise.all([
      this.delayLine.set("out", this.#settings("out")),
      this.delayLine.set("in", this.#settings("in")),
    ]);
  }

  /** What a delay line's fresh device still lacks of what a veth got when it was made. */
  deviceLines(end: CableEnd): string[] {
    if (!this.isDelayLine) return [];
    return [`link set ${end.device} address ${end.mac} mtu ${this.#mtu} txqueuelen ${TAP_QUEUE}`];
  }

  get #mtu(): number {
    return this.options.mtu ?? MTU;
  }

  #settings(direction: Direction): DelaySettings {
    const { delayMs = 0 } = this.options;
    return { delayMs, ...this.options[direction] };
  }
}

/** Ethernet's own, and the most that `native/delay.c` has room for. */
const MTU = 1500;

/**
 * Packets. A TAP drops what exceeds its queue, with no word to the sender: room for the bursts of several TCP senders
 * while the delay line is off the processor.
 */
const TAP_QUEUE = 5000;

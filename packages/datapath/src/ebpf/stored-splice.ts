import type { Shape } from "@isthmus/native/bpf";
import {
  IST_FAMILY,
  type IstLeg,
  type IstMode,
  type IstReason,
  type IstSplice,
  type IstState,
} from "@isthmus/native/netlink";
import { NS_PER_MS, now } from "./clock.ts";

const { mode: MODES, state: STATES, reason: REASONS } = IST_FAMILY.enums;
const IPPROTO_TCP = 6;

type Reader = (value: Buffer) => number;
type Span = readonly [from: number, to: number];

/** Where a splice's members are in the map's value. */
export class SpliceLayout {
  readonly bytes: number;
  readonly alloc: Span;
  readonly cell: Reader;
  readonly proto: Reader;
  readonly mode: Reader;
  readonly state: Reader;
  readonly reason: Reader;
  readonly over: Reader;
  readonly created: Reader;
  readonly legs: readonly { remote: Span; port: Span; heard: Reader; bytes: Reader; packets: Reader; acked: Reader }[];

  /** @param shape of `struct ist_bpf_splice` */
  constructor(shape: Shape) {
    this.bytes = shape.bytes;
    this.alloc = shape.span("alloc");
    this.cell = shape.reader("cell");
    this.proto = shape.reader("proto");
    this.mode = shape.reader("mode");
    this.state = shape.reader("tcp.state");
    this.reason = shape.reader("reason");
    this.over = shape.reader("over");
    this.created = shape.reader("created");
    this.legs = [0, 1].map((side) => ({
      remote: shape.span(`leg.${side}.tuple.remote.word`),
      port: shape.span(`leg.${side}.tuple.remote_port`),
      heard: shape.reader(`leg.${side}.heard`),
      bytes: shape.reader(`leg.${side}.bytes`),
      packets: shape.reader(`leg.${side}.packets`),
      acked: shape.reader(`tcp.end.${side}.acked`),
    }));
  }
}

/** A splice as its map had it. What nobody asks for is not looked at: there may be very many. */
export class StoredSplice implements IstSplice {
  readonly id: bigint;
  /** The map's value. */
  readonly value: Buffer;
  readonly #layout: SpliceLayout;

  constructor(layout: SpliceLayout, id: bigint, value: Buffer) {
    this.#layout = layout;
    this.id = id;
    this.value = value;
  }

  get alloc(): bigint {
    return this.value.readBigUInt64LE(this.#layout.alloc[0]);
  }

  get cell(): number {
    return this.#layout.cell(this.value);
  }

  get proto(): number {
    return this.#layout.proto(this.value);
  }

  get isUdp(): boolean {
    return this.proto !== IPPROTO_TCP;
  }

  get mode(): IstMode | undefined {
    return MODES[this.#layout.mode(this.value)];
  }

  get state(): IstState {
    return STATES[this.#layout.state(this.value)] ?? "closed";
  }

  get reason(): IstReason | undefined {
    const reason = this.#layout.reason(this.value);
    return reason === 0 ? undefined : REASONS[reason];
  }

  get isOver(): boolean {
    return this.#layout.over(this.value) !== 0;
  }

  /** Milliseconds of the clock that `now` tells. */
  get created(): number {
    return this.#layout.created(this.value) / NS_PER_MS;
  }

  get heard(): number {
    const [a, b] = this.#layout.legs;
    return Math.max(a!.heard(this.value), b!.heard(this.value)) / NS_PER_MS;
  }

  get age(): bigint {
    return BigInt(Math.round(Math.max(0, now() - this.created)));
  }

  get idle(): bigint {
    return BigInt(Math.round(Math.max(0, now() - this.heard)));
  }

  get leg(): IstLeg[] {
    const { value } = this;
    return this.#layout.legs.map(({ remote, port, bytes, packets }, side) => ({
      side,
      remote: value.subarray(...remote),
      remotePort: value.readUInt16BE(port[0]),
      bytes: BigInt(bytes(value)),
      packets: BigInt(packets(value)),
    }));
  }

  /** Whether a side acknowledged its SYN-ACK. */
  hasAcked(side: 0 | 1): boolean {
    return this.#layout.legs[side]!.acked(this.value) !== 0;
  }
}

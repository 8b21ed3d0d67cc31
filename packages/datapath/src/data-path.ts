import type { AllocationLimits, Code, HostPort, Side, Transport } from "@isthmus/protocol";

/** What a driver can do beyond the common part; the relay and the compliance suite ask, they never look at names. */
export interface Capabilities {
  readonly name: "kernel" | "ebpf" | "userspace";
  /** A stranger gets no answer at all, not even a reset; what it sends counts as dropped packets, not as refused legs. */
  readonly silentDrop: boolean;
  /** Splices and cells go on while the control plane is away; `dump` finds them again. */
  readonly survivesRestart: boolean;
  /** Can splice without changing ports (Pure TCP Splice, T 4.4). */
  readonly pure: boolean;
  /** Can have cells that are a fan-out (T 3.7.3). */
  readonly fanout: boolean;
  readonly udp: boolean;
  readonly ipv6: boolean;
}

/** First and last port that cells may use, both included. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

export interface OpenOptions {
  /** Where cells get their ports from, at random. */
  ports: PortRange;
  /** A UDP splice, or one side of it, is forgotten when nothing came for this long. */
  udpIdleMs: number;
  onEvent: (event: DataPathEvent) => void;
}

/**
 * A cell whose TCP legs keep their ports (Pure TCP Splice, T 4.4): the source port of one side is where legs of the other
 * arrive, and no other leg can join. Without `learns` both ports are agreed on; with it that side comes from any port,
 * which {@link DataPath.learn} makes the port of the other side, for each leg anew.
 */
export interface PureCell {
  readonly learns?: Side | undefined;
}

/**
 * A cell whose datagrams of side 0 go to every receiver of side 1 (T 3.7.3). The first who sends to side 0 is the source
 * for as long as it goes on sending; then whoever sends to side 1 is a receiver, and a splice, until it or the source is
 * silent. What receivers send goes to the source. No TCP leg can join.
 */
export interface FanoutCell {
  /** At once, 1 to 1,024. */
  readonly receivers: number;
  /** Gets every datagram as well, and need not send any. */
  readonly group?: FanoutGroup | undefined;
}

/** A group on the IST's own network, or one more host. */
export interface FanoutGroup {
  readonly host: string;
  readonly port: number;
  /** Of the network interface by which it is reached; else routes decide. */
  readonly ifindex?: number | undefined;
}

/**
 * A cell that shall be there; it is passive unless it is said to be pure. `ports` (of side 0, of side 1) are tried first;
 * without it they are chosen.
 */
export interface CellSpec {
  readonly cell: number;
  readonly ports?: readonly [number, number];
  readonly pure?: PureCell | undefined;
  readonly fanout?: FanoutCell | undefined;
}

/**
 * A cell that is there: the ports at which legs of each side arrive, the same number for TCP and UDP. One that is learned
 * from the other side's leg is 0 here.
 */
export interface CellPorts {
  readonly cell: number;
  readonly ports: readonly [number, number];
  readonly pure?: PureCell | undefined;
  readonly fanout?: FanoutCell | undefined;
}

/** The prefixes (protocol's `sourcePrefix`) from which legs of each side are expected; nothing else may join. */
export type ExpectedSources = readonly [readonly string[], readonly string[]];

export interface AllocationSpec {
  readonly allocation: string;
  readonly cells: readonly CellSpec[];
  readonly sources: ExpectedSources;
  readonly limits: AllocationLimits;
}

/** What is absent stays as it is. Splices that exist are held to new limits too, and outlive their cell and source. */
export interface AllocationUpdate {
  readonly sources?: ExpectedSources;
  /** All cells from now on: what is not named is closed, with its unpaired legs and its UDP splice. */
  readonly cells?: readonly CellSpec[];
  readonly limits?: AllocationLimits;
}

interface AtCell {
  readonly allocation: string;
  readonly cell: number;
  readonly proto: Transport;
}

export type DataPathEvent =
  /** A first leg waits at the cell. */
  | (AtCell & { readonly event: "half"; readonly side: Side; readonly source: HostPort })
  /** Two legs met; `splice` is unique as long as the data path is open. */
  | (AtCell & { readonly event: "paired"; readonly splice: number })
  /** Both ends know that they are connected: data may have passed in both directions from here on. */
  | (AtCell & { readonly event: "established"; readonly splice: number })
  /** A splice ended, or without `splice` an unpaired leg. */
  | (AtCell & { readonly event: "closed"; readonly splice?: number; readonly code: Code })
  /** Events were lost: what is known from them is to be asked for again. */
  | { readonly event: "resynchronise" };

/**
 * Why a packet was not forwarded; packets are counted, never logged. A driver that moves bytes knows the first ones
 * alone, of datagrams; one that moves packets counts those of TCP, too.
 */
export const PACKET_DROPS = {
  stranger: "the source address is not expected",
  early: "the other side has not sent anything yet",
  foreign: "another source holds this side of the cell",
  "splice-limit": "the allocation holds as many splices as it may",
  rate: "the allocation is above its rate",
  unsendable: "the system did not take it (too large, no route, no buffer)",
  "too-big": "it does not fit the path and must not be split; its sender was told",
  "hop-limit": "its TTL or hop limit is used up; its sender was told",
  malformed: "a header is cut, contradicts itself or has options that cannot be forwarded",
  checksum: "the checksum of a SYN is wrong",
  "beyond-fin": "data after the end of the stream",
  "stray-syn": "a SYN or SYN-ACK that does not belong to the splice's handshake",
  window: "a RST or FIN far from the receiver's window, which ended nothing",
  "table-full": "there are as many splices as the kernel was told to hold",
  "no-memory": "the kernel had no memory for a splice",
  released: "its cell was being removed",
} as const;
export type PacketDrop = keyof typeof PACKET_DROPS;

export function isPacketDrop(reason: string): reason is PacketDrop {
  return Object.hasOwn(PACKET_DROPS, reason);
}

export interface SpliceDump {
  readonly splice: number;
  /** Absent where the legs met at the stream endpoint. */
  readonly cell?: number;
  readonly proto: Transport;
  readonly sources: readonly [HostPort, HostPort];
  /** From side 0, from side 1. */
  readonly bytes: readonly [number, number];
  readonly ageMs: number;
  readonly idleMs: number;
}

export interface AllocationDump {
  readonly allocation: string;
  readonly cells: readonly CellPorts[];
  readonly splices: readonly SpliceDump[];
}

/** Totals, cheap to read: those of now, and counters since the data path was opened. */
export interface DataPathStats {
  readonly cells: number;
  /** Unpaired legs. */
  readonly halves: number;
  readonly splices: number;
  /** Those of them that carry datagrams: they never come to an end by themselves. */
  readonly udpSplices: number;
  /** Those of them whose ports pass unchanged. */
  readonly pureSplices: number;
  /** Bytes forwarded. */
  readonly bytes: number;
  /** Legs and splices that ended or were refused, by reason. */
  readonly closed: Readonly<Partial<Record<Code, number>>>;
  readonly dropped: Readonly<Partial<Record<PacketDrop, number>>>;
}

/**
 * What moves packets or bytes. Calls for one allocation must not overlap: wait for one before the next. Every call but
 * `open` may throw IsthmusError; a call that threw has changed nothing.
 */
export interface DataPath {
  /** @throws Error that says why this host cannot run the driver */
  open(options: OpenOptions): Promise<Capabilities>;
  /**
   * @returns the cells with their ports, in the order of their numbers
   * @throws IsthmusError `ist-full` when no port is left, `conflict` when the allocation is there already,
   *   `unsupported-rendezvous` for a pure cell or a fan-out where the driver has none
   */
  allocate(spec: AllocationSpec): Promise<CellPorts[]>;
  /**
   * @returns all cells of the allocation, in the order of their numbers
   * @throws IsthmusError `unknown-allocation`, `ist-full`, `unsupported-rendezvous`
   */
  update(allocation: string, change: AllocationUpdate): Promise<CellPorts[]>;
  /**
   * A leg waits at a pure cell that learns: the other side's leg may arrive at `port`, which is the first one's source
   * port, until the next one is learned. May overlap with other calls for the allocation.
   * @throws IsthmusError `conflict` when this host listens on the port itself, `unknown-allocation` when there is no such
   *   cell
   */
  learn(allocation: string, cell: number, port: number): Promise<void>;
  /** Resets every leg of the allocation for the reason `code`; nothing happens when it is unknown. */
  release(allocation: string, code: Code): Promise<void>;
  dump(): Promise<AllocationDump[]>;
  /** Why legs cannot meet at cells now, or not all of them; they can at the stream endpoint. */
  readonly problem: string | undefined;
  stats(): Promise<DataPathStats>;
  /** Lets go of everything; what a driver that survives restarts holds goes on. */
  close(): Promise<void>;
}

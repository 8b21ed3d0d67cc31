import type { Code, HostPort, Opener, Transport } from "@isthmus/protocol";
import type { Link } from "./link.ts";

/** What the other daemon wants to open: a stream or a flow of a channel of a subscription that both hold. */
export interface OpenRequest {
  subscription: string;
  channel: string;
  opener: Opener;
  proto: Transport;
  plain: boolean;
}

/** What the daemon around a link does for it. */
export interface LinkHost {
  /**
   * Sends a control frame over the session to the IST of the link's allocation, or over the ISB session.
   * @returns false when that session is down
   */
  sendViaIst(link: Link, frame: Buffer): boolean;
  sendViaIsb(link: Link, frame: Buffer): boolean;
  /**
   * The last word on an open of the peer: its grant, this side's own list and its limits.
   * @returns where to connect
   * @throws IsthmusError the refusal, told to the peer
   */
  admit(link: Link, request: OpenRequest): HostPort;
  /** From now on the link may be found by these keys, as long as it holds them. */
  keysAdded(link: Link, generation: string): void;
  /** The peer does not hold our newest keys: somebody must subscribe again. */
  keysLost(link: Link): void;
  /** No place to meet works, or the direct one failed: an allocation is needed. */
  needAllocation(link: Link): void;
  /** Something failed that a dead session might explain: look after the sessions. */
  suspect(link: Link): void;
  /** How a stream ended, for counters. `direction` is this side's: it opened or answered. */
  streamEnded(link: Link, subscription: string, code: Code, direction: "opened" | "answered"): void;
  /** The peer refused a UDP flow of this side. */
  flowRefused(link: Link, subscription: string, code: Code): void;
  /** Counters of what was dropped or refused without a stream to blame. */
  count(event: LinkEvent): void;
}

export type LinkEvent =
  | "control-via-direct"
  | "control-via-ist"
  | "control-via-isb"
  | "control-lost"
  | "control-forged"
  | "control-unknown"
  | "generation-unknown"
  | "repeated-open"
  | "datagram-forged"
  | "datagram-dropped"
  | "leg-refused";

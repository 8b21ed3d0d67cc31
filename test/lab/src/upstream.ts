import type { CableEnd } from "./cable.ts";
import type { Link } from "./link.ts";
import type { Node, NodeAddresses } from "./node.ts";

/** What nodes attach to: the Internet, or the LAN of a home. All lines are for `ip -batch` and may be repeated. */
export interface Upstream {
  /** Where the far ends of cables are. */
  readonly node: Node;
  readonly links: Link[];
  /** Addresses that nobody had before. */
  assign(count: number): NodeAddresses;
  /** For the attached node: its addresses and its way out. */
  nearLines(near: CableEnd, far: CableEnd, addresses: NodeAddresses): string[];
  /** For the upstream: the port and the way to the node. */
  farLines(near: CableEnd, far: CableEnd, addresses: NodeAddresses): string[];
}

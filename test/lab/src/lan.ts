import { GATEWAY_IPV6, type Subnet } from "./addresses.ts";
import type { CableEnd } from "./cable.ts";
import { LabError } from "./lab-error.ts";
import type { Link } from "./link.ts";
import type { Node, NodeAddresses } from "./node.ts";
import type { Upstream } from "./upstream.ts";

/** The router's bridge, which is the home's switch. */
export const LAN_DEVICE = "lan";

/** Where a home's hosts start; below are the router and whatever a test puts there. */
const FIRST_HOST = 10;

export interface LanOptions {
  /** Absent in a home without IPv4. */
  subnet?: Subnet;
  /** The first four groups of the /64; absent in a home without IPv6. */
  prefix?: string;
}

/** The switched network behind a router, which is address number 1 of it. */
export class Lan implements Upstream {
  readonly node: Node;
  readonly links: Link[] = [];
  readonly subnet: Subnet | undefined;
  readonly prefix: string | undefined;
  #next = FIRST_HOST;

  constructor(router: Node, { subnet, prefix }: LanOptions) {
    this.node = router;
    this.subnet = subnet;
    this.prefix = prefix;
  }

  assign(count: number): NodeAddresses {
    const numbers = Array.from({ length: count }, () => this.#next++);
    const { subnet, prefix } = this;
    return {
      ipv4: subnet ? numbers.map((n) => subnet.address(n)) : [],
      ipv6: prefix ? numbers.map((n) => `${prefix}::${n.toString(16)}`) : [],
    };
  }

  /** For the router: the switch itself. */
  get bridgeLines(): string[] {
    const lines = [`link set ${LAN_DEVICE} up`];
    if (this.subnet) lines.push(`addr replace ${this.subnet.address(1)}/${this.subnet.bits} dev ${LAN_DEVICE}`);
    if (this.prefix) {
      lines.push(
        `addr replace ${this.prefix}::1/64 dev ${LAN_DEVICE} nodad`,
        `addr replace ${GATEWAY_IPV6}/64 dev ${LAN_DEVICE} nodad`,
      );
    }
    return lines;
  }

  nearLines({ device }: CableEnd, _far: CableEnd, { ipv4, ipv6 }: NodeAddresses): string[] {
    const lines = [`link set ${device} up`];
    if (ipv4.length > 0) {
      if (!this.subnet) throw new LabError(`the LAN of ${this.node.name} has no IPv4`);
      const { bits } = this.subnet;
      lines.push(
        ...ipv4.map((address) => `addr replace ${address}/${bits} dev ${device}`),
        `route replace default via ${this.subnet.address(1)} dev ${device}`,
      );
    }
    if (ipv6.length > 0) {
      lines.push(
        ...ipv6.map((address) => `addr replace ${address}/64 dev ${device} nodad`),
        `route replace ::/0 via ${GATEWAY_IPV6} dev ${device}`,
      );
    }
    return lines;
  }

  farLines(_near: CableEnd, { device }: CableEnd): string[] {
    return [`link set ${device} master ${LAN_DEVICE} up`];
  }
}

import { GATEWAY_IPV6, INTERNET_IPV4, INTERNET_IPV6, publicIpv4, publicIpv6 } from "./addresses.ts";
import type { CableEnd } from "./cable.ts";
import type { Link } from "./link.ts";
import type { Node, NodeAddresses } from "./node.ts";
import { batch, load } from "./script.ts";
import type { Upstream } from "./upstream.ts";

const RULESET = `table inet internet {
  chain forward {
    type filter hook forward priority filter
    fib saddr . iif oif missing counter drop
  }
}`;

/**
 * The Internet: one router that knows the way to every public address and to nothing else. Each attachment is a link
 * of its own, so there is no broadcast, and a wrong destination is answered as unreachable.
 */
export class Internet implements Upstream {
  readonly node: Node;
  readonly links: Link[] = [];
  #assigned = 0;

  constructor(node: Node) {
    this.node = node;
    node.addresses.ipv4.push(INTERNET_IPV4);
    node.addresses.ipv6.push(INTERNET_IPV6);
  }

  assign(count: number): NodeAddresses {
    const numbers = Array.from({ length: count }, () => ++this.#assigned);
    return { ipv4: numbers.map(publicIpv4), ipv6: numbers.map(publicIpv6) };
  }

  /** As providers do (BCP 38), it takes no packet from where it would not send the answer: nothing private leaks. */
  get setUpScript(): string {
    return `
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
${batch(["link set lo up", `addr add ${INTERNET_IPV4}/32 dev lo`, `addr add ${INTERNET_IPV6}/128 dev lo`])}
${load(RULESET)}
`;
  }

  /** Packets refused for a source that is not the sender's own: private addresses, or one that is no longer its. */
  async rejected(): Promise<number> {
    const chain = await this.node.read("nft", ["list", "chain", "inet", "internet", "forward"]);
    return Number(/counter packets (\d+)/.exec(chain)?.[1]);
  }

  // Neighbours are written down, not asked for: the first packet over a long line is not late for an ARP.
  nearLines(near: CableEnd, far: CableEnd, { ipv4, ipv6 }: NodeAddresses): string[] {
    const { device } = near;
    const lines = [`link set ${device} up`];
    if (ipv4.length > 0) {
      lines.push(
        ...ipv4.map((address) => `addr replace ${address}/32 dev ${device}`),
        `neigh replace ${INTERNET_IPV4} lladdr ${far.mac} dev ${device} nud permanent`,
        `route replace ${INTERNET_IPV4} dev ${device} scope link`,
        `route replace default via ${INTERNET_IPV4} dev ${device}`,
      );
    }
    if (ipv6.length > 0) {
      lines.push(
        ...ipv6.map((address) => `addr replace ${address}/128 dev ${device} nodad`),
        `neigh replace ${GATEWAY_IPV6} lladdr ${far.mac} dev ${device} nud permanent`,
        `route replace ::/0 via ${GATEWAY_IPV6} dev ${device}`,
      );
    }
    return lines;
  }

  farLines(near: CableEnd, { device }: CableEnd, { ipv4, ipv6 }: NodeAddresses): string[] {
    const neighbours = [...ipv4, ...ipv6].map(
      (address) => `neigh replace ${address} lladdr ${near.mac} dev ${device} nud permanent`,
    );
    return [
      `link set ${device} up`,
      `addr replace ${GATEWAY_IPV6}/64 dev ${device} nodad`,
      ...neighbours,
      ...ipv4.map((address) => `route replace ${address}/32 dev ${device}`),
      ...ipv6.map((address) => `route replace ${address}/128 dev ${device}`),
    ];
  }
}

import type { Subnet } from "./addresses.ts";
import { LabError } from "./lab-error.ts";
import { LAN_DEVICE } from "./lan.ts";

/** The router's interface to its upstream. */
export const WAN_DEVICE = "wan";

type Behaviour = "endpoint-independent" | "address-dependent" | "address-and-port-dependent";

export interface NatDescription {
  /** The word of the Internet Service Broker thesis (and of RFC 3489), where it has one. */
  thesis: string;
  /** RFC 4787, 4.1: when two flows of one inner endpoint share a public port. */
  mapping: Behaviour;
  /** RFC 4787, 5: who outside may send to that public port. */
  filtering: Behaviour;
  /** RFC 4787, 4.1: whether all flows of one host share a public address. */
  pooling: "paired" | "arbitrary";
}

/** Every kind of edge between a home and its upstream, in both vocabularies. */
export const NAT_KINDS = {
  none: {
    thesis: "not NATed",
    mapping: "endpoint-independent",
    filtering: "endpoint-independent",
    pooling: "paired",
  },
  "full-cone": {
    thesis: "full cone",
    mapping: "endpoint-independent",
    filtering: "endpoint-independent",
    pooling: "paired",
  },
  restricted: {
    thesis: "restricted cone",
    mapping: "endpoint-independent",
    filtering: "address-dependent",
    pooling: "paired",
  },
  "port-restricted": {
    thesis: "port restricted cone",
    mapping: "endpoint-independent",
    filtering: "address-and-port-dependent",
    pooling: "paired",
  },
  symmetric: {
    thesis: "symmetric",
    mapping: "address-and-port-dependent",
    filtering: "address-and-port-dependent",
    pooling: "paired",
  },
  /** Ports count up from flow to flow: a peer can guess the next one. */
  "symmetric-sequential": {
    thesis: "symmetric",
    mapping: "address-and-port-dependent",
    filtering: "address-and-port-dependent",
    pooling: "paired",
  },
  /** Each flow leaves from any of several public addresses, as behind some carriers. */
  pool: {
    thesis: "symmetric",
    mapping: "address-and-port-dependent",
    filtering: "address-and-port-dependent",
    pooling: "arbitrary",
  },
} as const satisfies Record<string, NatDescription>;

export type NatKind = keyof typeof NAT_KINDS;

/** The kinds that give one inner endpoint one public port. */
const CONES: readonly NatKind[] = ["full-cone", "restricted", "port-restricted"];

export interface NatOptions {
  kind: NatKind;
  /** The router's addresses at its upstream; more than one only with `pool`. */
  publicAddresses: string[];
  subnet: Subnet;
  /** A cone gives a flow its own port outside wherever that is free; otherwise never. */
  preservePorts: boolean;
  /** Inner hosts reach each other by their public endpoints. */
  hairpin: boolean;
  /** How long a cone's mapping lives without outbound traffic. */
  timeoutSeconds: number;
}

/** The table `ip nat` of a router, replacing a former one with all it remembered; nothing for kind `none`. */
export function natRuleset(options: NatOptions): string {
  const { kind, hairpin } = options;
  if (hairpin && !CONES.includes(kind))
    throw new LabError(`a NAT of kind ${kind} has no public endpoints to hairpin to`);
  const fresh = "add table ip nat\ndelete table ip nat\n";
  switch (kind) {
    case "none":
      return fresh;
    case "full-cone":
    case "restricted":
    case "port-restricted":
      return fresh + cone(options);
    case "symmetric":
      return fresh + perFlow(`snat to ${options.publicAddresses[0]} fully-random`);
    case "symmetric-sequential":
      return fresh + perFlow(sequential(options.publicAddresses[0]!));
    case "pool":
      return fresh + perFlow(pool(options.publicAddresses));
  }
}

const TRANSPORT = "meta l4proto { tcp, udp }";

/** Public ports of a NAT that counts. */
const FIRST_PORT = 40_000;
const PORT_COUNT = 4096;

/** Linux by itself maps each flow for itself and lets only its own replies in: all that these kinds need. */
function perFlow(translation: string): string {
  return `table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    iifname "${LAN_DEVICE}" oifname "${WAN_DEVICE}" ${translation}
  }
}
`;
}

function sequential(address: string): string {
  // By way of a map, for nftables would put the bare number into the port in the machine's byte order.
  const ports = Array.from({ length: PORT_COUNT }, (_, index) => `${index} : ${FIRST_PORT + index}`).join(", ");
  const scope = `iifname "${LAN_DEVICE}" oifname "${WAN_DEVICE}"`;
  return `${TRANSPORT} snat to ${address} : numgen inc mod ${PORT_COUNT} map { ${ports} }\n    ${scope} snat to ${address}`;
}

function pool(addresses: string[]): string {
  const choices = addresses.map((address, index) => `${index} : ${address}`).join(", ");
  return `snat to numgen random mod ${addresses.length} map { ${choices} }`;
}

/**
 * A cone remembers which public port belongs to which inner endpoint (both ways) and whom the endpoint has written to.
 * It learns that behind the translation, from what really left, and forgets it without outbound traffic (RFC 4787,
 * 4.3). Linux by itself would keep the port too, but share it between two hosts that use the same one.
 */
function cone({ kind, publicAddresses, subnet, preservePorts, hairpin, timeoutSeconds }: NatOptions): string {
  const address = publicAddresses[0]!;
  const expiry = `flags dynamic,timeout; timeout ${timeoutSeconds}s`;
  const inbound = {
    "full-cone": `${TRANSPORT} dnat ip to meta l4proto . th dport map @inside`,
    restricted: `meta l4proto . th dport . ip saddr @contacted dnat ip to meta l4proto . th dport map @inside`,
    "port-restricted": undefined, // Linux lets the replies of a flow in, and nothing else.
  }[kind as "full-cone" | "restricted" | "port-restricted"];
  // A hairpin is open to all inner hosts: they are not filtered. The sender's address is its public one (RFC 4787, 6).
  const hairpinIn = `iifname "${LAN_DEVICE}" ip daddr ${address} ${TRANSPORT} dnat ip to meta l4proto . th dport map @inside`;
  const hairpinOut = `iifname "${LAN_DEVICE}" oifname "${LAN_DEVICE}" ct status dnat ${TRANSPORT} jump map_endpoint`;
  return `table ip nat {
  map inside { type inet_proto . inet_service : ipv4_addr . inet_service; ${expiry}; }
  map outside { type inet_proto . ipv4_addr . inet_service : inet_service; ${expiry}; }
  set taken { type inet_proto . inet_service; ${expiry}; }
  set contacted { type inet_proto . inet_service . ipv4_addr; ${expiry}; }
  chain prerouting {
    type nat hook prerouting priority dstnat
    ${inbound ? `iifname "${WAN_DEVICE}" ${inbound}` : ""}
    ${hairpin ? hairpinIn : ""}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat
    ${hairpin ? hairpinOut : ""}
    iifname "${LAN_DEVICE}" oifname "${WAN_DEVICE}" ${TRANSPORT} jump map_endpoint
    iifname "${LAN_DEVICE}" oifname "${WAN_DEVICE}" snat to ${address}
  }
  chain map_endpoint {
    ${TRANSPORT} snat to ${address} : meta l4proto . ip saddr . th sport map @outside
    ${preservePorts ? `meta l4proto . th sport != @taken snat to ${address}` : ""}
    snat to ${address} fully-random
  }
  chain remember {
    type filter hook postrouting priority srcnat + 50
    ${TRANSPORT} ip saddr ${address} ct direction original ct original ip saddr ${subnet.text} goto remember_own_flow
    ${TRANSPORT} ip saddr ${address} ct direction reply ct reply ip saddr ${subnet.text} goto remember_answer
  }
  chain remember_own_flow {
    ${TRANSPORT} update @inside { meta l4proto . th sport : ct original ip saddr . ct original proto-src }
    ${TRANSPORT} update @outside { meta l4proto . ct original ip saddr . ct original proto-src : th sport }
    goto remember_port
  }
  chain remember_answer {
    ${TRANSPORT} update @inside { meta l4proto . th sport : ct reply ip saddr . ct reply proto-src }
    ${TRANSPORT} update @outside { meta l4proto . ct reply ip saddr . ct reply proto-src : th sport }
    goto remember_port
  }
  chain remember_port {
    update @taken { meta l4proto . th sport }
    update @contacted { meta l4proto . th sport . ip daddr }
  }
}
`;
}

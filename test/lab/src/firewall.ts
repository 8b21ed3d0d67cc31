import { LAN_DEVICE } from "./lan.ts";
import { WAN_DEVICE } from "./nat-kinds.ts";

/** What a router lets through besides what its NAT decides. */
export const FIREWALLS = {
  /** Everything, in both directions. */
  open: "lets everything through",
  /** What nobody inside has started stays out. Usual. */
  stateful: "drops new inbound flows",
  /** And no UDP at all, as in some companies. */
  "no-udp": "drops UDP, and new inbound flows",
  /** And nothing leaves but TCP to port 443. */
  "https-only": "lets only TCP to port 443 out",
} as const;

export type Firewall = keyof typeof FIREWALLS;

/** The table `inet filter` of a router, replacing a former one. */
export function firewallRuleset(kind: Firewall): string {
  const fresh = "add table inet filter\ndelete table inet filter\n";
  if (kind === "open") return fresh;
  const outbound = `iifname "${LAN_DEVICE}" oifname "${WAN_DEVICE}"`;
  const forbidden = {
    stateful: "",
    "no-udp": "meta l4proto udp drop",
    "https-only": `${outbound} meta l4proto != tcp drop\n    ${outbound} tcp dport != 443 drop`,
  }[kind];
  // A packet that belongs to nothing would leave without translation, so it is dropped. An inbound packet to the router
  // itself must leave no flow behind either: that would be in the way of the flow that a host inside is about to open.
  return `${fresh}table inet filter {
  chain input {
    type filter hook input priority filter; policy drop
    iifname != "${WAN_DEVICE}" accept
    ct state established,related accept
    meta l4proto { icmp, ipv6-icmp } accept
  }
  chain forward {
    type filter hook forward priority filter; policy drop
    ${forbidden}
    ct state invalid drop
    ct state established,related accept
    ct status dnat accept
    iifname "${LAN_DEVICE}" accept
  }
}
`;
}

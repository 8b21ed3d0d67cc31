/** Of the ends of a splice. */
export type Families = readonly [a: 4 | 6, b: 4 | 6];

export const ALL_FAMILIES = [
  [4, 4],
  [6, 6],
  [4, 6],
  [6, 4],
] as const satisfies readonly Families[];

/**
 * Three hosts as network namespaces: `a` and `b` reach nobody but the relay `i`, and each other through it only.
 *
 *   a 10.1.0.2, fd01::2 --- 10.1.0.1, fd01::1 i 10.2.0.1, fd02::1 --- r --- 10.3.0.2, fd03::2 b
 *
 * `r` is a plain router, where tests make a path narrow, lossy or slow.
 */
export const HOSTS = {
  a: { v4: "10.1.0.2", v6: "fd01::2", ist4: "10.1.0.1", ist6: "fd01::1" },
  b: { v4: "10.3.0.2", v6: "fd03::2", ist4: "10.2.0.1", ist6: "fd02::1" },
} as const;

/** A shell script that makes the namespaces, and the cables from the relay to `b`; whatever is between it and `a`. */
export const NAMESPACES = `
set -e
for host in a i r b; do
  ip netns add $host
  ip -n $host link set lo up
done
address() {
  ip -n $1 addr add $3 dev $2
  ip -n $1 addr add $4 dev $2 nodad
  ip -n $1 link set $2 up
}
ip link add i1 netns i type veth peer name r0 netns r
ip link add r1 netns r type veth peer name b0 netns b
address i i1 10.2.0.1/24 fd02::1/64
address r r0 10.2.0.3/24 fd02::3/64
ip netns exec r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
`;

/**
 * `HOSTS` with a NAT (nftables, masquerade) in front of each:
 *
 *   a 192.168.1.2, fd11::2 --- q 10.1.0.2, fd01::2 --- i --- 10.2.0.3, fd02::3 r --- 192.168.3.2, fd13::2 b
 */
export const HOSTS_BEHIND_NATS = {
  a: { v4: "192.168.1.2", v6: "fd11::2", ist4: "10.1.0.1", ist6: "fd01::1" },
  b: { v4: "192.168.3.2", v6: "fd13::2", ist4: "10.2.0.1", ist6: "fd02::1" },
} as const;

/** What the relay sees of both hosts, by side. */
export const SOURCES = [
  ["10.1.0.2", "fd01::/64"],
  ["10.3.0.2", "fd03::/64"],
] as const;
export const SOURCES_BEHIND_NATS = [
  ["10.1.0.2", "fd01::2"],
  ["10.2.0.3", "fd02::3"],
] as const;

/** A shell script that makes the hosts behind their NATs. */
export const SET_UP_HOSTS_BEHIND_NATS = `
${NAMESPACES}
ip netns add q
ip -n q link set lo up
ip netns exec q sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link add a0 netns a type veth peer name q1 netns q
ip link add q0 netns q type veth peer name i0 netns i
address a a0 192.168.1.2/24 fd11::2/64
address q q1 192.168.1.1/24 fd11::1/64
address q q0 10.1.0.2/24 fd01::2/64
address i i0 10.1.0.1/24 fd01::1/64
address r r1 192.168.3.1/24 fd13::1/64
address b b0 192.168.3.2/24 fd13::2/64
for at in a/192.168.1.1/fd11::1 b/192.168.3.1/fd13::1 q/10.1.0.1/fd01::1 r/10.2.0.1/fd02::1; do
  IFS=/ read -r host v4 v6 <<END
$at
END
  ip -n $host route add default via $v4
  ip -n $host -6 route add default via $v6
done
for at in q/q0 r/r0; do
  ip netns exec \${at%/*} nft -f - <<NFT
table inet nat {
  chain post { type nat hook postrouting priority srcnat; oifname \${at#*/} masquerade; }
}
NFT
done
`;

/** A shell script that makes the hosts. */
export const SET_UP_HOSTS = `
${NAMESPACES}
ip link add a0 netns a type veth peer name i0 netns i
address a a0 10.1.0.2/24 fd01::2/64
address i i0 10.1.0.1/24 fd01::1/64
address r r1 10.3.0.1/24 fd03::1/64
address b b0 10.3.0.2/24 fd03::2/64
for family in 4 6; do
  [ $family = 4 ] && one=10.1.0.1 two=10.2.0.3 three=10.3.0.1 net=10.3.0.0/24
  [ $family = 6 ] && one=fd01::1 two=fd02::3 three=fd03::1 net=fd03::/64
  ip -n a -$family route add default via $one
  ip -n i -$family route add $net via $two
  ip -n b -$family route add default via $three
  ip -n r -$family route add default via $(echo $two | sed 's/3$/1/')
done
# Addresses that no stack answers for, though their packets come to these hosts.
ip -n i route add 10.1.0.128/25 via 10.1.0.2
ip -n i route add fd01::ff:0/112 via fd01::2
ip -n r route add 10.3.0.128/25 via 10.3.0.2
ip -n r route add fd03::ff:0/112 via fd03::2
`;

const FIRST_GHOST = 128;
/** As many addresses of each side as the routes above lead to. */
const GHOSTS = 127;

/** Two ends for wire.c, at addresses that are nobody's, whose packets come to `a` and `b`. */
export interface WireEnds {
  /** Of each side, IPv4 and IPv6. */
  readonly sources: readonly [readonly [string, string], readonly [string, string]];
  /** The arguments of wire.c. @param ports of the cell, at the relay */
  words(ports: readonly [number, number], families: Families): string[];
}

/** @param n counts up from 0: each pair has other addresses than those right before */
export function wireEnds(n: number): WireEnds {
  const ghost = FIRST_GHOST + (n % GHOSTS);
  const sources = [
    [`10.1.0.${ghost}`, `fd01::ff:${ghost}`],
    [`10.3.0.${ghost}`, `fd03::ff:${ghost}`],
  ] as const;
  return {
    sources,
    words: (ports, families) =>
      ([0, 1] as const).flatMap((side) => {
        const host = side === 0 ? "a" : "b";
        const [v4, v6] = sources[side];
        const { ist4, ist6 } = HOSTS[host];
        const [own, ist] = families[side] === 4 ? [v4, ist4] : [v6, ist6];
        return [host, own, `700${side}`, ist, String(ports[side])];
      }),
  };
}

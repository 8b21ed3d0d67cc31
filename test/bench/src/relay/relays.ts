import { NODE } from "@isthmus/e2e";
import { haproxyConfiguration } from "../peers/haproxy.ts";

/** As many connections at once as any measure makes. */
export const MOST_CONNECTIONS = 100;

/** The port on which host b listens, and that of relays that listen. */
const SERVICE_PORT = 5000;
/** Even ports for side 0, odd ones for side 1: one cell for each connection. Below those that hosts choose themselves. */
const FIRST_PORT = 20_000;
/** Source ports of datagrams at relays that hold a pair of legs for good: the pair is the same for each measurement. */
const DATAGRAM_PORTS = [7000, 7001] as const;

/** Addresses of one relay and of the routers on both its sides. */
export interface Place {
  namespace: string;
  /** The relay's, towards a and towards b. */
  near: string;
  far: string;
  /** The public ones of a's and of b's router. */
  a: string;
  b: string;
}

/** Words for the load generator: who sends, who receives. */
export type Ends = readonly [from: string, to: string];

/** Files as the relay's shell finds them. */
export interface Tools {
  istctl: string;
  /** Command line of the user-space IST, without its arguments. */
  userspace: string;
}

/** A way from host a to host b. */
export interface Relay {
  readonly name: string;
  readonly title: string;
  readonly carriesUdp: boolean;
  tcp(place: Place): Ends;
  udp(place: Place): Ends;
  /** What makes its namespace a relay; to be run there. */
  setUp(place: Place, tools: Tools): string;
}

const LISTENER = `b,listen,192.168.2.2,${SERVICE_PORT}`;

/** b listens behind a port forwarding of its router, and a connects. */
function connecting(name: string, title: string, to: (place: Place) => string): Omit<Relay, "setUp" | "carriesUdp"> {
  const ends = (place: Place): Ends => [`a,connect,${to(place)},${SERVICE_PORT}`, LISTENER];
  return { name, title, tcp: ends, udp: ends };
}

/** Both connect to cells of an IST. */
function meeting(name: string, title: string): Omit<Relay, "setUp" | "carriesUdp"> {
  const ends = ({ near, far }: Place, local: readonly [number, number]): Ends => [
    `a,connect,${near},${FIRST_PORT},${local[0]},2`,
    `b,connect,${far},${FIRST_PORT + 1},${local[1]},2`,
  ];
  return { name, title, tcp: (place) => ends(place, [0, 0]), udp: (place) => ends(place, DATAGRAM_PORTS) };
}

/** A cable between the hosts. */
export const direct: Relay = {
  name: "direct",
  title: "direct",
  carriesUdp: true,
  tcp: () => [`a,connect,172.16.0.2,${SERVICE_PORT}`, `b,listen,172.16.0.2,${SERVICE_PORT}`],
  udp: () => [`a,connect,172.16.0.2,${SERVICE_PORT}`, `b,listen,172.16.0.2,${SERVICE_PORT}`],
  setUp: () => "",
};

/** A cable between the two NATs: what hosts and NATs cost alone. */
export const none: Relay = {
  ...connecting("none", "both NATs, no relay", () => "10.255.0.2"),
  carriesUdp: true,
  setUp: () => "",
};

export const forward: Relay = {
  ...connecting("forward", "plain forwarding", ({ b }) => b),
  carriesUdp: true,
  setUp: () => "sysctl -qw net.ipv4.ip_forward=1",
};

export const nat: Relay = {
  ...connecting("nat", "nftables NAT", ({ near }) => near),
  carriesUdp: true,
  setUp: ({ b }) => `
    sysctl -qw net.ipv4.ip_forward=1
    nft -f - <<END
      table ip nat {
        chain in {
          type nat hook prerouting priority -100
          iifname "i0" meta l4proto { tcp, udp } th dport ${SERVICE_PORT} dnat to ${b}
        }
        chain out {
          type nat hook postrouting priority 100
          oifname "i1" masquerade
        }
      }
END`,
};

function allocation({ a, b }: Place, tools: Tools, cell: (even: number, odd: number) => string): string {
  const cells = Array.from({ length: MOST_CONNECTIONS }, (_, n) => {
    const even = FIRST_PORT + 2 * n;
    return `cell ${n} ${cell(even, even + 1)}`;
  });
  return `${tools.istctl} new 1 source 0 ${a} source 1 ${b} ${cells.join(" ")}`;
}

export const passive: Relay = {
  ...meeting("passive", "kernel IST, Passive Splice"),
  carriesUdp: true,
  setUp: (place, tools) => allocation(place, tools, (even, odd) => `passive ${even} ${odd}`),
};

/** a sends from odd ports to even ones, b the other way round, and the IST leaves both as they are. */
export const pure: Relay = {
  ...meeting("pure", "kernel IST, Pure Splice"),
  carriesUdp: true,
  tcp: (place) => pureEnds(place),
  udp: (place) => pureEnds(place),
  setUp: (place, tools) => allocation(place, tools, (even, odd) => `pure ${even} ${odd} ${odd} ${even}`),
};

function pureEnds({ near, far }: Place): Ends {
  const [even, odd] = [FIRST_PORT, FIRST_PORT + 1];
  return [`a,connect,${near},${even},${odd},2`, `b,connect,${far},${odd},${even},2`];
}

export const userspace: Relay = {
  ...meeting("userspace", "user-space IST"),
  carriesUdp: true,
  setUp: ({ a, b }, tools) =>
    inBackground(`${tools.userspace} ${a} ${b} ${FIRST_PORT} ${MOST_CONNECTIONS}`, "userspace", "grep -q ready"),
};

export const socat: Relay = {
  ...connecting("socat", "socat", ({ near }) => near),
  carriesUdp: true,
  setUp: ({ near, b }) =>
    ["TCP4", "UDP4"]
      .map((protocol) => {
        const backlog = protocol === "TCP4" ? `,backlog=${MOST_CONNECTIONS}` : "";
        const listen = `${protocol}-LISTEN:${SERVICE_PORT},bind=${near},fork,reuseaddr${backlog}`;
        return inBackground(`socat ${listen} ${protocol}:${b}:${SERVICE_PORT}`, `socat-${protocol}`, "true");
      })
      .join("\n"),
};

export const haproxy: Relay = {
  ...connecting("haproxy", "HAProxy", ({ near }) => near),
  carriesUdp: false,
  setUp: ({ near, b }) => `
    cat >/tmp/haproxy.cfg <<END
${haproxyConfiguration(`${near}:${SERVICE_PORT}`, `${b}:${SERVICE_PORT}`)}END
    ${inBackground("haproxy -db -f /tmp/haproxy.cfg", "haproxy", "true")}`,
};

/** The command that runs the user-space IST. */
export function userspaceCommand(file: string): string {
  return [NODE, ...process.execArgv, file].join(" ");
}

/** Starts a program that outlives the script, and waits until its output is as it should be. */
function inBackground(command: string, name: string, isReady: string): string {
  const log = `/tmp/${name}.log`;
  return `
    HOME=/tmp setsid ${command} >${log} 2>&1 </dev/null & pid=$!
    until ${isReady} ${log}; do kill -0 $pid || { cat ${log}; exit 1; }; sleep 0.1; done`;
}

import { NODE } from "@isthmus/e2e";
import { haproxyConfiguration } from "../peers/haproxy.ts";
import { sshdConfiguration } from "../peers/ssh.ts";

/** As many connections at once as any measure makes. */
export const MOST_CONNECTIONS = 100;

/** The port on which host b listens, and that of relays that listen. */
const SERVICE_PORT = 5000;
const TURN_PORT = 3478;
const SSH_PORT = 2222;
/** Even ports for side 0, odd ones for side 1: one cell for each connection. Below those that hosts choose themselves. */
const FIRST_PORT = 20_000;
/** Source ports of datagrams at relays that hold a pair of legs for good: the pair is the same for each measurement. */
const DATAGRAM_PORTS = [7000, 7001] as const;
/** Where an rtpengine hears of calls; on the loopback of its namespace. */
const CALLS_PORT = 2223;
/** Longer than other relays take until a call's turn comes again. */
const CALL_SECONDS = 86_400;

/** Addresses of one relay and of the routers on both its sides. */
export interface Place {
  namespace: string;
  /** The relay's, towards a and towards b. */
  near: string;
  far: string;
  /** Those from which a and b are seen there: of their routers, or their own. */
  a: string;
  b: string;
  /** The address of b at which it listens. */
  listener: string;
}

/** Words for the load generator: who sends, who receives. */
type Ends = readonly [from: string, to: string];

/** Files as the relay's shell finds them. */
export interface Tools {
  istctl: string;
  /** Command line of an IST's data path alone, without its arguments. */
  ist: string;
  /** Command line of what makes a call at an rtpengine, without its arguments. */
  call: string;
  /** Where relays put files of theirs. */
  folder: string;
}

/** A way from host a to host b for datagrams alone. */
export interface DatagramRelay {
  readonly name: string;
  readonly title: string;
  udp(place: Place): Ends;
  /** What makes its namespace a relay; to be run there. */
  setUp(place: Place, tools: Tools): string;
  /**
   * Of a relay whose program leaves to the kernel what it knows, and is still in the way of the rest: says how many datagrams
   * the kernel has relayed, and how many came to sockets; to be run there.
   */
  countPaths?(place: Place): string;
}

/** A way from host a to host b. */
export interface Relay extends DatagramRelay {
  readonly carriesUdp: boolean;
  tcp(place: Place): Ends;
}

/** b listens, if behind a router then at a port forwarding of that, and a connects. */
function connecting(name: string, title: string, to: (place: Place) => string): Omit<Relay, "setUp" | "carriesUdp"> {
  const ends = (place: Place): Ends => [`a,connect,${to(place)},${SERVICE_PORT}`, listening(place)];
  return { name, title, tcp: ends, udp: ends };
}

function listening({ listener }: Place): string {
  return `b,listen,${listener},${SERVICE_PORT}`;
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
  setUp: (place) => natRules(place),
};

/** Connections that were seen in both directions pass beside the rest of the network's code. */
export const flowtable: Relay = {
  ...connecting("flowtable", "nftables NAT with flowtable", ({ near }) => near),
  carriesUdp: true,
  setUp: (place) =>
    natRules(
      place,
      `
        flowtable fast {
          hook ingress priority 0
          devices = { i0, i1 }
        }
        chain through {
          type filter hook forward priority 0
          meta l4proto { tcp, udp } flow add @fast
        }`,
    ),
};

function natRules({ b }: Place, more = ""): string {
  return `
    sysctl -qw net.ipv4.ip_forward=1
    nft -f - <<END
      table ip nat {${more}
        chain in {
          type nat hook prerouting priority -100
          iifname "i0" meta l4proto { tcp, udp } th dport ${SERVICE_PORT} dnat to ${b}
        }
        chain out {
          type nat hook postrouting priority 100
          oifname "i1" masquerade
        }
      }
END`;
}

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

/** An IST's data path in a process of its own. @param prefix of its command line */
function started(driver: "ebpf" | "userspace", splice: "passive" | "pure", prefix = ""): Relay["setUp"] {
  return ({ namespace, a, b }, tools) =>
    inBackground(tools, `${prefix} ${tools.ist} ${driver} ${splice} ${a} ${b} ${FIRST_PORT} ${MOST_CONNECTIONS}`, {
      name: `ist-${namespace}`,
      isReady: "grep -q ready",
    });
}

export const ebpfPassive: Relay = {
  ...meeting("ebpf-passive", "eBPF IST, Passive Splice"),
  carriesUdp: true,
  setUp: started("ebpf", "passive"),
};

/** Packets are where all others' are; the process that is told of splices is not. */
export const ebpfApart: Relay = {
  ...meeting("ebpf-apart", "eBPF IST, its control plane on another CPU"),
  carriesUdp: true,
  setUp: started("ebpf", "passive", "taskset -c 0"),
};

/** With others' splices in its table. */
export const ebpfCrowded: Relay = {
  ...meeting("ebpf-crowded", "eBPF IST, 1 M entries in its table"),
  carriesUdp: true,
  setUp: started("ebpf", "passive"),
};

export const ebpfPure: Relay = {
  ...meeting("ebpf-pure", "eBPF IST, Pure Splice"),
  carriesUdp: true,
  tcp: (place) => pureEnds(place),
  udp: (place) => pureEnds(place),
  setUp: started("ebpf", "pure"),
};

export const userspace: Relay = {
  ...meeting("userspace", "user-space IST"),
  carriesUdp: true,
  setUp: started("userspace", "passive"),
};

export const socat: Relay = {
  ...connecting("socat", "socat", ({ near }) => near),
  carriesUdp: true,
  setUp: ({ near, b }, tools) =>
    ["TCP4", "UDP4"]
      .map((protocol) => {
        const backlog = protocol === "TCP4" ? `,backlog=${MOST_CONNECTIONS}` : "";
        const listen = `${protocol}-LISTEN:${SERVICE_PORT},bind=${near},fork,reuseaddr${backlog}`;
        return inBackground(tools, `socat ${listen} ${protocol}:${b}:${SERVICE_PORT}`, { name: `socat-${protocol}` });
      })
      .join("\n"),
};

export const haproxy: Relay = {
  ...connecting("haproxy", "HAProxy", ({ near }) => near),
  carriesUdp: false,
  setUp: ({ near, b }, tools) => `
    cat >${tools.folder}/haproxy.cfg <<END
${haproxyConfiguration(`${near}:${SERVICE_PORT}`, `${b}:${SERVICE_PORT}`)}END
    ${inBackground(tools, `haproxy -db -f ${tools.folder}/haproxy.cfg`, { name: "haproxy" })}`,
};

export const nginx: Relay = {
  ...connecting("nginx", "nginx stream", ({ near }) => near),
  carriesUdp: true,
  setUp: ({ near, b }, tools) => `
    cat >${tools.folder}/nginx.conf <<END
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid ${tools.folder}/nginx.pid;
worker_processes 1;
worker_rlimit_nofile 16384;
events {
  worker_connections 16384;
}
stream {
  proxy_timeout 60s;
  server {
    listen ${near}:${SERVICE_PORT} backlog=4096;
    proxy_pass ${b}:${SERVICE_PORT};
  }
  server {
    listen ${near}:${SERVICE_PORT} udp;
    proxy_pass ${b}:${SERVICE_PORT};
  }
}
END
    ${inBackground(tools, `nginx -e stderr -c ${tools.folder}/nginx.conf`, { name: "nginx" })}
    ${untilOpen(`${near}:${SERVICE_PORT}`)}`,
};

/** TURN: a's datagrams go in a channel (RFC 8656), its bytes in connections that the server makes (RFC 6062). */
export const coturn: Relay = {
  name: "coturn",
  title: "coturn",
  carriesUdp: true,
  tcp: turnEnds,
  udp: turnEnds,
  setUp: ({ near, far }, tools) => {
    const addresses = `-L ${near} -p ${TURN_PORT} -E ${far}`;
    const files = `--pidfile ${tools.folder}/turn.pid --userdb ${tools.folder}/turn.db`;
    const command = `turnserver -n ${addresses} --no-auth --no-cli --no-tls --no-dtls --relay-threads 1 ${files} -l stdout`;
    return `${inBackground(tools, command, { name: "coturn" })}\n${untilOpen(`${near}:${TURN_PORT}`)}`;
  },
};

function turnEnds(place: Place): Ends {
  return [`a,turn,${place.near},${TURN_PORT},${place.listener},${SERVICE_PORT}`, listening(place)];
}

/** The relay has an sshd, to which b's host has connected. It carries what comes there encrypted from the relay on. */
export const ssh: Relay = {
  ...connecting("ssh", "ssh -R", ({ near }) => near),
  carriesUdp: false,
  setUp: ({ near, far, listener }, tools) => {
    const own = `${tools.folder}/ssh`;
    const options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ExitOnForwardFailure=yes";
    const forwarding = `-R ${near}:${SERVICE_PORT}:${listener}:${SERVICE_PORT}`;
    const client = `ip netns exec b ssh -N -T -F none -i ${own}/user ${options} -p ${SSH_PORT} ${forwarding} root@${far}`;
    return `
      mkdir -p ${own} /run/sshd
      for key in host user; do ssh-keygen -q -t ed25519 -N "" -f ${own}/$key; done
      cat >${own}/config <<END
${sshdConfiguration({ port: SSH_PORT, hostKey: `${own}/host`, allowed: `${own}/user.pub` })}GatewayPorts clientspecified
END
      ${inBackground(tools, `/usr/sbin/sshd -D -e -f ${own}/config`, { name: "sshd" })}
      ${untilOpen(`0.0.0.0:${SSH_PORT}`)}
      ${inBackground(tools, client, { name: "ssh" })}
      ${untilOpen(`${near}:${SERVICE_PORT}`)}`;
  },
};

/** A call of phones, whose datagrams are packets of RTP. */
export const rtpengine: DatagramRelay = {
  ...inCall("rtpengine", "rtpengine, RTP", "rtp"),
  ...inKernel("rtp"),
};

/** A call of fax machines, whose datagrams (UDPTL) it does not look into. */
export const rtpengineFax: DatagramRelay = {
  ...inCall("rtpengine-fax", "rtpengine, UDPTL", "connect"),
  ...inKernel("udptl"),
};

/** Without its module. */
export const rtpengineAlone: DatagramRelay = {
  ...inCall("rtpengine-alone", "rtpengine in user space, RTP", "rtp"),
  setUp: (place, tools) => startedCall(place, tools, "rtp", -1),
};

/** Both ends send to the port that their call has at the relay. */
function inCall(name: string, title: string, how: string): Pick<DatagramRelay, "name" | "title" | "udp"> {
  return {
    name,
    title,
    udp: ({ near, far }) => [
      `a,${how},${near},${FIRST_PORT},${DATAGRAM_PORTS[0]}`,
      `b,${how},${far},${FIRST_PORT},${DATAGRAM_PORTS[1]}`,
    ],
  };
}

function inKernel(protocol: "rtp" | "udptl"): Pick<DatagramRelay, "setUp" | "countPaths"> {
  /** The module's tables are those of the machine, not of a namespace. */
  const tableOf = ({ namespace }: Place): number => Number(namespace.slice(1));
  return {
    setUp: (place, tools) => `
      iptables -I INPUT -p udp -j RTPENGINE --id ${tableOf(place)}
      ${startedCall(place, tools, protocol, tableOf(place))}`,
    countPaths: (place) => `
      awk '/ stats: / { count += $4 } END { print count + 0 }' /proc/rtpengine/${tableOf(place)}/list
      awk '/^Udp: [0-9]/ { print $2 }' /proc/net/snmp`,
  };
}

/** @param table of the module, -1 for none */
function startedCall({ near, far, a, b }: Place, tools: Tools, protocol: "rtp" | "udptl", table: number): string {
  const interfaces = `--interface=near/${near} --interface=far/${far}`;
  // A pair for RTP and RTCP on each interface, so that it is known which port a call gets.
  const ports = `--listen-ng=127.0.0.1:${CALLS_PORT} --port-min=${FIRST_PORT} --port-max=${FIRST_PORT + 1}`;
  const options = `--foreground --log-stderr --no-fallback --table=${table} --timeout=${CALL_SECONDS}`;
  const command = `rtpengine --config-file=none ${options} ${interfaces} ${ports}`;
  const ends = `${a} ${DATAGRAM_PORTS[0]} ${b} ${DATAGRAM_PORTS[1]}`;
  return `
    ${inBackground(tools, command, { name: `rtpengine${table}`, isReady: "grep -q 'Startup complete'" })}
    ${tools.call} ${protocol} ${CALLS_PORT} ${ends} ${FIRST_PORT}`;
}

/** The command that runs a program of this folder. */
export function commandOf(file: string): string {
  return [NODE, ...process.execArgv, file].join(" ");
}

/** Starts a program that outlives the script, and waits until its output is as it should be. */
function inBackground(
  { folder }: Tools,
  command: string,
  { name, isReady = "true" }: { name: string; isReady?: string },
): string {
  const log = `${folder}/${name}.log`;
  return `
    HOME=/tmp setsid ${command} >${log} 2>&1 </dev/null & pid=$!
    until ${isReady} ${log}; do kill -0 $pid || { cat ${log}; exit 1; }; sleep 0.1; done`;
}

/** Waits until the program that was started last takes TCP connections there. */
function untilOpen(address: string): string {
  return `until ss -Hltn | grep -qF " ${address} "; do kill -0 $pid; sleep 0.1; done`;
}

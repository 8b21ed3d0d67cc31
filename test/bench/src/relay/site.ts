import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { extname, join, resolve } from "node:path";
import { NETNS_FOLDER, WORLD_FOLDER } from "@isthmus/lab";
import type { VirtualMachine } from "@isthmus/vm";
import {
  commandOf,
  type DatagramRelay,
  direct,
  MOST_CONNECTIONS,
  none,
  type Place,
  type Relay,
  type Tools,
} from "./relays.ts";
import { HOST, PATIENCE_MS, pinned, type Shell } from "./shell.ts";

const CHECKOUT = resolve(import.meta.dirname, "../../../..");
const LOAD = join(import.meta.dirname, "../../c/load.c");
/** Where tools lie in a guest: in its memory, so that running them asks nobody. */
const GUEST_TOOLS = "/tmp/relay-tools";

const SESSIONS = "/proc/sys/kernel/sched_autogroup_enabled";

/** Until a relay whose program leaves to the kernel what it knows has learnt of both ends. */
const LEARNING_ROUND_TRIPS = 20;
const LEARNING_BYTES = 64;
/** The share of datagrams that may come to such a program then. */
export const MOST_BESIDE = 0.01;

/** The machine of a small relay: T's device had 256 MB and one slow processor. */
export const SMALL_RELAY = { cpus: 1, memoryMiB: 256 };

/** Bytes that both ends counted in the same time. */
export interface Flow {
  sent: number;
  received: number;
  seconds: number;
  /** That all processes on the path ran; 0 where it is not known. */
  cpu: number;
}

export interface RoundTrips {
  /** Microseconds. */
  median: number;
  mean: number;
  lost: number;
}

export interface SetUps {
  /** Microseconds from the second SYN until both ends are connected. */
  median: number;
  perSecond: number;
}

/** Those of a path's two sides to which relays are connected. */
interface Neighbours {
  a: string;
  b: string;
  /** Where b listens; nothing is where relays see it. */
  listener?: string;
}

const ROUTERS: Neighbours = { a: "na", b: "nb", listener: "192.168.2.2" };
const ENDS: Neighbours = { a: "a", b: "b" };

const CABLE = `
cable() {
  ip link add $2 netns $1 type veth peer name $5 netns $4
  ip -n $1 addr add $3 dev $2
  ip -n $4 addr add $6 dev $5
  ip -n $1 link set $2 up
  ip -n $4 link set $5 up
}
`;

/** Hosts, in namespaces, and a cable between them. */
const HOSTS = `
set -e
for host in a b; do
  ip netns add $host
  ip -n $host link set lo up
done
${CABLE}
cable a d0 172.16.0.1/24 b d0 172.16.0.2/24
`;

/** A NAT before each of them, and a cable between these. */
const NATS = `
set -e
for router in na nb; do
  ip netns add $router
  ip -n $router link set lo up
done
${CABLE}
cable a a0 192.168.1.2/24 na lan 192.168.1.1/24
cable b b0 192.168.2.2/24 nb lan 192.168.2.1/24
cable na w0 10.255.0.1/24 nb w0 10.255.0.2/24
ip -n a route add default via 192.168.1.1
ip -n b route add default via 192.168.2.1
for router in na nb; do ip netns exec $router sysctl -qw net.ipv4.ip_forward=1; done
# What nobody asked for is dropped, as by NATs at home: an entry for it would take the port from who has it.
for router in na nb; do
  ip netns exec $router nft -f - <<END
    table ip guard {
      chain in {
        type filter hook input priority 0
        iifname "w*" ct state new drop
      }
    }
END
done
ip netns exec na nft -f - <<END
  table ip nat {
    chain out {
      type nat hook postrouting priority 100
      oifname "w*" masquerade
    }
  }
END
ip netns exec nb nft -f - <<END
  table ip nat {
    chain in {
      type nat hook prerouting priority -100
      iifname "w*" meta l4proto { tcp, udp } th dport 5000 dnat to 192.168.2.2
    }
    chain out {
      type nat hook postrouting priority 100
      oifname "w*" masquerade
    }
  }
END
`;

/**
 * One CPU stands for five hosts: what each of them would queue for itself comes together in one queue, which must hold the
 * windows of all connections of a measurement. Otherwise the kernel loses packets before it has worked on them, and
 * measured is for how long TCP waited. Senders' buffers must be full before a measurement begins, as they are for most of
 * the thesis' longer ones: until then what is sent goes nowhere.
 */
const SEND_BUFFER_BYTES = 128 * 1024;
const RECEIVE_BUFFER_BYTES = 256 * 1024;
const BACKLOG = Math.ceil((MOST_CONNECTIONS * RECEIVE_BUFFER_BYTES) / 1000);
const BUFFERS = `for host in a b; do
  ip netns exec $host sysctl -qw net.ipv4.tcp_wmem="4096 65536 ${SEND_BUFFER_BYTES}" \
    net.ipv4.tcp_rmem="4096 131072 ${RECEIVE_BUFFER_BYTES}"
done`;

/** Namespaces would inherit what this host likes best, which paces itself by a clock. */
const CONGESTION_CONTROL = "sysctl -qw net.ipv4.tcp_congestion_control=reno";

/**
 * Two hosts, behind NATs or not, and relays between them:
 *
 *   a 192.168.1.2 --- na --- near RELAY far --- nb --- 192.168.2.2 b
 *   a                    --- near RELAY far ---                    b
 *
 * Each relay is a namespace with cables of its own, so that all of them can stand side by side and what one of them does
 * to its network (hooks, connection tracking) is not paid for by the next. One more cable goes from na to nb where these
 * are, and one from a to b.
 */
export class RelaySite {
  readonly relays: readonly DatagramRelay[];
  readonly #hosts: Shell;
  readonly #relay: Shell;
  readonly #neighbours: Neighbours;
  /** Folders of the tools, for the hosts and for relays. */
  readonly #tools: { hosts: string; relays: string };
  /** The one CPU that all share; nothing where there is only one. */
  readonly #cpu: number | undefined;
  readonly #restore: (() => void) | undefined;

  private constructor(
    relays: readonly DatagramRelay[],
    where: {
      hosts: Shell;
      relays: Shell;
      tools: { hosts: string; relays: string };
      neighbours: Neighbours;
      cpu?: number;
      /** Undoes what was changed of this host. */
      restore?: () => void;
    },
  ) {
    this.relays = relays;
    this.#hosts = where.hosts;
    this.#relay = where.relays;
    this.#tools = where.tools;
    this.#neighbours = where.neighbours;
    this.#cpu = where.cpu;
    this.#restore = where.restore;
  }

  /** All of it in one guest, with the module loaded. */
  static async inside(vm: VirtualMachine, relays: readonly DatagramRelay[]): Promise<RelaySite> {
    await buildTools(vm);
    const tools = { hosts: GUEST_TOOLS, relays: GUEST_TOOLS };
    const site = new RelaySite(relays, { hosts: vm, relays: vm, tools, neighbours: ROUTERS });
    await vm.check(`sysctl -qw net.core.netdev_max_backlog=${BACKLOG}\n${HOSTS}${NATS}\n${BUFFERS}`, PATIENCE_MS);
    for (const relay of standing(relays)) {
      await vm.check(`set -e; ${site.#cables(relay)}`, PATIENCE_MS);
      await site.#setUp(relay);
    }
    return site;
  }

  /**
   * All of it in namespaces here, which is to be a private world, without NATs: hosts and relays share one CPU and go
   * before everything else there, so that speed is the inverse of work.
   */
  static async here(relays: readonly Relay[]): Promise<RelaySite> {
    const restore = withoutSessions();
    const folder = mkdtempSync(join(WORLD_FOLDER, "relay-site-"));
    execFileSync("gcc", ["-O2", "-o", join(folder, "load"), LOAD]);
    const cpu = availableParallelism() - 1;
    const site = new RelaySite(relays, {
      hosts: HOST,
      relays: pinned(cpu),
      tools: { hosts: folder, relays: folder },
      neighbours: ENDS,
      cpu,
      restore,
    });
    await HOST.check(HOSTS);
    for (const relay of standing(relays)) {
      await HOST.check(`set -e; ${site.#cables(relay)}`);
      await site.#setUp(relay);
    }
    await HOST.check(`for space in $(ls ${NETNS_FOLDER}); do ip netns exec $space ${CONGESTION_CONTROL}; done`);
    return site;
  }

  /**
   * The relays alone in the guest, the hosts and their routers in namespaces here, which is to be a private world. The
   * guest has been booted with {@link networkCards}.
   */
  static async around(vm: VirtualMachine, relays: readonly Relay[]): Promise<RelaySite> {
    await buildTools(vm);
    const tools = { hosts: vm.share, relays: GUEST_TOOLS };
    const site = new RelaySite(relays, { hosts: HOST, relays: vm, tools, neighbours: ROUTERS });
    await HOST.check(`${HOSTS}${NATS}\n${BUFFERS}`);
    await vm.check("/sbin/modprobe virtio_net", PATIENCE_MS);
    for (const [n, relay] of standing(relays).entries()) {
      await HOST.check(`set -e; ${site.#plugRouters(relay, n)}`);
      await vm.check(`set -e; ${site.#plugRelay(relay, n)}`, PATIENCE_MS);
      await site.#setUp(relay);
    }
    return site;
  }

  /** Ends what was made here, with all that runs there; what is in a guest ends with that. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#restore?.();
    if (this.#hosts !== HOST) return;
    await HOST.check(`
      for space in $(ls ${NETNS_FOLDER}); do
        for process in $(ip netns pids $space); do kill -KILL $process || true; done
        ip netns del $space
      done`);
  }

  place({ name }: DatagramRelay): Place {
    const number = this.relays.findIndex((relay) => relay.name === name) + 1;
    const net = `10.${number}`;
    const b = `${net}.2.2`;
    const { listener = b } = this.#neighbours;
    return { namespace: `r${number}`, near: `${net}.1.1`, far: `${net}.2.1`, a: `${net}.1.2`, b, listener };
  }

  /** Bytes from a to b over so many connections. */
  tcp(relay: Relay, connections: number, { warmMs, ms }: { warmMs: number; ms: number }): Promise<Flow> {
    return this.#load("tcp", relay, relay.tcp(this.place(relay)), [connections, warmMs, ms]);
  }

  /** Datagrams there and back, one at a time. */
  roundTrips(relay: DatagramRelay, count: number, bytes: number): Promise<RoundTrips> {
    return this.#datagrams("rtt", relay, [count, bytes]);
  }

  /** Datagrams, as many as arrive without loss: the counts are of datagrams. */
  packets(relay: DatagramRelay, bytes: number, { warmMs, ms }: { warmMs: number; ms: number }): Promise<Flow> {
    return this.#datagrams("packets", relay, [bytes, warmMs, ms]);
  }

  /** Datagrams at a rate, 0 for as fast as they go: the counts are of datagrams. */
  rate(relay: DatagramRelay, bytes: number, bitsPerSecond: number, ms: number): Promise<Flow> {
    return this.#datagrams("rate", relay, [bytes, bitsPerSecond, ms]);
  }

  /** Connections, one after the other. */
  setUps(relay: Relay, count: number): Promise<SetUps> {
    return this.#load("setup", relay, relay.tcp(this.place(relay)), [count]);
  }

  /** Connections, many at once. */
  burst(relay: Relay, count: number): Promise<Pick<SetUps, "perSecond">> {
    return this.#load("burst", relay, relay.tcp(this.place(relay)), [count]);
  }

  /** Makes so many connections and holds them while a script runs at the relay. @returns what that wrote */
  async hold(relay: Relay, count: number, script: string, timeoutMs: number): Promise<string> {
    const [from, to] = relay.tcp(this.place(relay));
    await this.#hosts.check(
      `cd ${this.#tools.hosts}; rm -f hold.in hold.out; mkfifo hold.in
      ./load setup ${from} ${to} ${count} keep <hold.in >hold.out 2>&1 & pid=$!
      exec 3>hold.in
      until [ -s hold.out ]; do kill -0 $pid || exit 1; sleep 0.1; done
      setsid sh -c 'exec sleep infinity' >&3 2>&1 </dev/null & echo $! >hold.pid`,
      timeoutMs,
    );
    const output = await this.#relay.check(script, PATIENCE_MS);
    await this.#hosts.check(`kill $(cat ${this.#tools.hosts}/hold.pid)`);
    return output;
  }

  /** Fills a BPF data path's table. @returns how many entries there are */
  async crowd(relay: Relay, splices: number): Promise<number> {
    const command = `cd ${CHECKOUT}; ip netns exec ${this.place(relay).namespace} ${commandOf(siblingOf("crowd"))}`;
    return Number(await this.hold(relay, 1, `${command} ${splices}`, PATIENCE_MS));
  }

  /** Runs a script on a relay. */
  on(relay: DatagramRelay, script: string): Promise<string> {
    return this.#relay.check(
      `ip netns exec ${this.place(relay).namespace} sh -e <<'SCRIPT'\n${script}\nSCRIPT\n`,
      PATIENCE_MS,
    );
  }

  /** The module's own words. */
  istctl(relay: Relay, words: string): Promise<string> {
    return this.on(relay, `${this.#tools.relays}/istctl ${words}`);
  }

  /** Switches what devices do for the stack on or off, on all cables. */
  async setOffloads(on: boolean): Promise<void> {
    const word = on ? "on" : "off";
    const settings = ["tx", "rx", "tso", "gso", "gro"].map((name) => `${name} ${word}`).join(" ");
    await this.#hosts.check(
      `
      for space in $(ls /run/netns); do
        for device in $(ip -n $space -o link | awk -F': ' '{ print $2 }' | cut -d@ -f1 | grep -v '^lo$'); do
          ip netns exec $space ethtool -K $device ${settings} >/dev/null || exit 1
        done
      done`,
      PATIENCE_MS,
    );
  }

  /**
   * Makes each relay a device of its own that can be too slow: packets from a wait in a queue of 256, from which a thread of
   * the relay's takes them when the scheduler lets it, and are lost when it is full. Otherwise whoever sends does the
   * relay's work, and nothing is ever lost.
   */
  async queueAtRelays(): Promise<void> {
    for (const relay of standing(this.relays)) {
      // The queue is that of NAPI, which devices of this kind have for GRO.
      await this.on(relay, "ethtool -K i0 gro on; echo 1 >/sys/class/net/i0/threaded");
    }
  }

  /** @throws Error when a relay's program was in the way of what its kernel could have relayed */
  async #datagrams<T>(what: string, relay: DatagramRelay, numbers: readonly number[]): Promise<T> {
    const before = await this.#countPaths(relay);
    const result = await this.#load<T>(what, relay, relay.udp(this.place(relay)), numbers);
    const after = await this.#countPaths(relay);
    if (!before || !after) return result;
    const [inKernel, beside] = [after[0] - before[0], after[1] - before[1]];
    if (beside < MOST_BESIDE * inKernel) return result;
    throw new Error(`${relay.title}: the kernel relayed ${inKernel} datagrams, ${beside} came to the program`);
  }

  async #countPaths(relay: DatagramRelay): Promise<readonly [number, number] | undefined> {
    if (!relay.countPaths) return undefined;
    const output = await this.on(relay, relay.countPaths(this.place(relay)));
    const counts = /^(\d+)\n(\d+)\n$/.exec(output);
    if (!counts) throw new Error(`${relay.title} was to count datagrams: ${output}`);
    return [Number(counts[1]), Number(counts[2])];
  }

  async #load<T>(
    what: string,
    relay: DatagramRelay,
    [from, to]: readonly [string, string],
    numbers: readonly number[],
  ): Promise<T> {
    const namespace = standing([relay]).length > 0 ? this.place(relay).namespace : this.#neighbours.a;
    const settings = this.#cpu === undefined ? "" : `LOAD_CPU=${this.#cpu} LOAD_RELAY=${namespace}`;
    const line = await this.#hosts.check(
      `${settings} ${this.#tools.hosts}/load ${what} ${from} ${to} ${numbers.join(" ")}`,
      PATIENCE_MS,
    );
    return JSON.parse(line) as T;
  }

  #cables(relay: DatagramRelay): string {
    const { namespace, near, far, a, b } = this.place(relay);
    return `
      ip netns add ${namespace}
      ip -n ${namespace} link set lo up
      ip link add w-${namespace} netns ${this.#neighbours.a} type veth peer name i0 netns ${namespace}
      ip link add w-${namespace} netns ${this.#neighbours.b} type veth peer name i1 netns ${namespace}
      ${this.#relayAddresses(relay)}
      ${this.#routerAddresses(this.#neighbours.a, `w-${namespace}`, a, near, far)}
      ${this.#routerAddresses(this.#neighbours.b, `w-${namespace}`, b, far, near)}`;
  }

  #relayAddresses(relay: DatagramRelay): string {
    const { namespace, near, far } = this.place(relay);
    return `
      ip -n ${namespace} addr add ${near}/24 dev i0
      ip -n ${namespace} addr add ${far}/24 dev i1
      ip -n ${namespace} link set i0 up
      ip -n ${namespace} link set i1 up`;
  }

  /** A router's side of a cable to a relay, through which it reaches what is behind the relay. */
  #routerAddresses(router: string, device: string, own: string, relay: string, beyond: string): string {
    return `
      ip -n ${router} addr add ${own}/24 dev ${device}
      ip -n ${router} link set ${device} up
      ip -n ${router} route add ${beyond.replace(/\d+$/, "0/24")} via ${relay}`;
  }

  /** Gives the routers the host's ends of a relay's two network cards. */
  #plugRouters(relay: DatagramRelay, n: number): string {
    const { near, far, a, b } = this.place(relay);
    const [toA, toB] = cardsOf(n);
    return `
      ip link set ${toA} netns na
      ip link set ${toB} netns nb
      ${this.#routerAddresses(this.#neighbours.a, toA, a, near, far)}
      ${this.#routerAddresses(this.#neighbours.b, toB, b, far, near)}`;
  }

  #plugRelay(relay: DatagramRelay, n: number): string {
    const { namespace } = this.place(relay);
    const cards = [2 * n, 2 * n + 1].map(cardAddress);
    return `
      ip netns add ${namespace}
      ip -n ${namespace} link set lo up
      card() {
        for device in /sys/class/net/*; do
          [ "$(cat $device/address)" = $1 ] && ip link set \${device##*/} netns ${namespace} name $2 && return
        done
        echo "no card $1"; exit 1
      }
      card ${cards[0]} i0
      card ${cards[1]} i1
      ${this.#relayAddresses(relay)}`;
  }

  async #setUp(relay: DatagramRelay): Promise<void> {
    const tools: Tools = {
      istctl: `${this.#tools.relays}/istctl`,
      ist: commandOf(siblingOf("ist")),
      call: commandOf(siblingOf("call")),
      folder: this.#tools.relays,
    };
    const place = this.place(relay);
    const script = `cd ${CHECKOUT}\n${relay.setUp(place, tools)}`;
    await this.#relay.check(`ip netns exec ${place.namespace} sh -e <<'SCRIPT'\n${script}\nSCRIPT\n`, PATIENCE_MS);
    if (relay.countPaths) await this.#load("rtt", relay, relay.udp(place), [LEARNING_ROUND_TRIPS, LEARNING_BYTES]);
  }
}

/**
 * Has the scheduler share CPUs out to processes, whatever session they are of: else all of a session together count as
 * much as those of another, however nice they are. @returns what undoes it
 */
function withoutSessions(): () => void {
  if (!existsSync(SESSIONS)) return () => undefined;
  const before = readFileSync(SESSIONS);
  writeFileSync(SESSIONS, "0");
  return () => writeFileSync(SESSIONS, before);
}

/** A program of this folder, built or not as this one is. */
function siblingOf(name: string): string {
  return join(import.meta.dirname, name + extname(import.meta.filename));
}

/** Those that are something between the NATs. */
function standing(relays: readonly DatagramRelay[]): DatagramRelay[] {
  return relays.filter((relay) => relay !== direct && relay !== none);
}

/** The host's ends of the cards of relay n, towards a and towards b. Routers know cables to relays by their `w`. */
function cardsOf(n: number): [string, string] {
  return [`w-a${n}`, `w-b${n}`];
}

function cardAddress(n: number): string {
  return `52:54:00:00:00:${n.toString(16).padStart(2, "0")}`;
}

/** Words of QEMU's command line: two network cards for each relay, like those of small devices: they only move packets. */
export function networkCards(relays: readonly Relay[]): string[] {
  const helps = ["csum", "gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo"];
  const guestHelps = ["guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo"];
  const off = [...helps, ...guestHelps].map((name) => `${name}=off`).join(",");
  return standing(relays)
    .flatMap((_, n) => cardsOf(n))
    .flatMap((card, n) => [
      "-netdev",
      `tap,id=card${n},ifname=${card},script=no,downscript=no`,
      "-device",
      `virtio-net-pci,netdev=card${n},mac=${cardAddress(n)},romfile=,${off}`,
    ]);
}

/** Compiles the load generator and the module's command, in the folder that a guest shares, and for its own memory. */
async function buildTools(vm: VirtualMachine): Promise<void> {
  vm.compile(LOAD, join(CHECKOUT, "kernel/splice/test/istctl.c"));
  await vm.check(
    `mkdir -p ${GUEST_TOOLS} && cp ${vm.guestShare}/load ${vm.guestShare}/istctl ${GUEST_TOOLS}/`,
    PATIENCE_MS,
  );
}

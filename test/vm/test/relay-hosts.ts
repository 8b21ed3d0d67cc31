import { resolve } from "node:path";
import { buildModule, type Kernel, type KernelModule, VirtualMachine, type VirtualMachineOptions } from "@isthmus/vm";
import {
  type Families,
  HOSTS,
  NAMESPACES,
  SET_UP_HOSTS,
  wireEnds,
} from "../../../kernel/splice/test/relay-topology.ts";

const TOOLS = resolve(import.meta.dirname, "../../../kernel/splice/test");
const TOOL_NAMES = ["istctl", "leg", "wire"];
/** Where they are in the guest's memory: from the host's files each start would take much longer. */
const BIN = "/tmp/relay-tools";

/** The sources of both hosts, as words of istctl. */
export const SOURCES = "source 0 10.1.0.2 source 0 fd01::/64 source 1 10.3.0.2 source 1 fd03::/64";

/**
 * `HOSTS` with a NAT (nftables, masquerade) in front of each:
 *
 *   a 192.168.1.2, fd11::2 --- q 10.1.0.2, fd01::2 --- i --- 10.2.0.3, fd02::3 r --- 192.168.3.2, fd13::2 b
 */
const HOSTS_BEHIND_NATS = {
  a: { v4: "192.168.1.2", v6: "fd11::2", ist4: "10.1.0.1", ist6: "fd01::1" },
  b: { v4: "192.168.3.2", v6: "fd13::2", ist4: "10.2.0.1", ist6: "fd02::1" },
} as const;

const SOURCES_BEHIND_NATS = "source 0 10.1.0.2 source 0 fd01::2 source 1 10.2.0.3 source 1 fd02::3";

/** Some hundred programs are started, on a machine that has just come up. */
const SET_UP_MS = 300_000;

const BEHIND_NATS = `
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

function sourceOf(tool: string): string {
  return resolve(TOOLS, `${tool}.c`);
}

export interface RelayMachineOptions extends Pick<VirtualMachineOptions, "memoryMiB" | "countInstructions"> {
  behindNats?: boolean;
  /** Further tools, in the folder that the machine shares. */
  tools?: readonly string[];
  /** Each kind of object has a cache of its own, so that it can be counted. */
  countsObjects?: boolean;
}

export interface RelayMachine {
  readonly module: KernelModule;
  readonly vm: VirtualMachine;
  readonly hosts: RelayHosts;
}

/** Boots a machine with the module and the hosts. */
export async function bootRelay(
  kernel: Kernel,
  { behindNats, tools = [], countsObjects, ...options }: RelayMachineOptions = {},
): Promise<RelayMachine> {
  const module = buildModule("splice", kernel);
  const vm = await VirtualMachine.boot({
    kernel,
    kernelArguments: countsObjects ? ["slab_nomerge"] : [],
    ...options,
  });
  try {
    await vm.load(module);
    vm.compile(...tools.map(sourceOf));
    return { module, vm, hosts: await RelayHosts.on(vm, { behindNats }) };
  } catch (error) {
    await vm.stop();
    throw error;
  }
}

/** The hosts and the tools that run on them. */
export class RelayHosts {
  readonly vm: VirtualMachine;
  readonly addresses: typeof HOSTS | typeof HOSTS_BEHIND_NATS;
  /** What the relay sees of both hosts, as words of istctl. */
  readonly sources: string;
  #cells = 0;
  #runs = 0;
  #ghosts = 0;

  private constructor(vm: VirtualMachine, isBehindNats: boolean) {
    this.vm = vm;
    this.addresses = isBehindNats ? HOSTS_BEHIND_NATS : HOSTS;
    this.sources = isBehindNats ? SOURCES_BEHIND_NATS : SOURCES;
  }

  static async on(vm: VirtualMachine, { behindNats = false } = {}): Promise<RelayHosts> {
    vm.compile(...TOOL_NAMES.map(sourceOf));
    const script = `
      mkdir -p ${BIN} && cp ${TOOL_NAMES.map((tool) => `${vm.guestShare}/${tool}`).join(" ")} ${BIN}
      ${behindNats ? BEHIND_NATS : SET_UP_HOSTS}
    `;
    await vm.check(script, SET_UP_MS);
    return new RelayHosts(vm, behindNats);
  }

  async remove(): Promise<void> {
    await this.vm.check("for host in $(ls /run/netns); do ip netns del $host; done");
  }

  /** Removes the hosts and the module. @returns what the kernel has complained of, and memory that was left */
  async unload(): Promise<string[]> {
    await this.remove();
    await this.vm.check("/sbin/rmmod ist_splice");
    const leaks = await this.vm.leaks();
    return [...(leaks === "" ? [] : [leaks]), ...this.vm.complaints()];
  }

  /** Asks the module on the relay. @throws VmError with the kernel's text */
  istctl(words: string): Promise<string> {
    return this.vm.check(`ip netns exec i ${BIN}/istctl ${words}`);
  }

  /** The kernel's refusal. */
  async refusal(words: string): Promise<string> {
    const { status, output } = await this.vm.run(`ip netns exec i ${BIN}/istctl ${words}`);
    return status === 0 ? "not refused" : output.trim();
  }

  /** An allocation of one passive cell with ports of its own, above those that tests choose. */
  async cell(words = ""): Promise<Cell> {
    const { id, ports, request } = this.#nextCell(words, this.sources);
    await this.istctl(request);
    return { id, ports };
  }

  #nextCell(words: string, sources: string): Cell & { request: string } {
    const n = ++this.#cells;
    const id = 100_000 + n;
    const ports = [40_000 + 2 * n, 40_001 + 2 * n] as const;
    return { id, ports, request: `new ${id} ${sources} cell 0 passive ${ports.join(" ")} ${words}` };
  }

  /** Numbers of the relay's statistics by name; `rN` are the reasons, "ended/packets". */
  async stats(): Promise<Record<string, string>> {
    const words = (await this.istctl("stats")).trim().split(" ").slice(1);
    return Object.fromEntries(words.map((word) => word.split("=") as [string, string]));
  }

  /** A leg as words of `leg`: a host's address and port (0 is any), and those of the relay that it connects to. */
  way(side: 0 | 1, ports: readonly [number, number], family: 4 | 6 = 4, from = 0): string {
    const { v4, v6, ist4, ist6 } = side === 0 ? this.addresses.a : this.addresses.b;
    const [own, ist] = family === 4 ? [v4, ist4] : [v6, ist6];
    return `${own} ${from} ${ist} ${ports[side]}`;
  }

  on(host: "a" | "q" | "i" | "r" | "b", script: string): Promise<string> {
    return this.vm.check(`ip netns exec ${host} sh -e <<'END'\n${script}\nEND\n`);
  }

  /** Runs `leg` on both hosts at the same time, `b` after a while; several pairs may. @returns what they said */
  async legs(a: string, b: string, delayMs = 100): Promise<[string, string]> {
    const file = `/tmp/legs-${++this.#runs}`;
    const output = await this.vm.check(`
      ip netns exec a ${BIN}/leg ${a} >${file}.a & pid=$!
      sleep ${delayMs / 1000}
      ip netns exec b ${BIN}/leg ${b} >${file}.b; status=$?
      wait $pid || status="$status, a $?"
      cat ${file}.a; echo ----; cat ${file}.b
      [ "$status" = 0 ] || { echo "status b $status"; exit 1; }
    `);
    return output.split("----\n") as [string, string];
  }

  /** Two ends that send each other so many bytes, and check every one. */
  transfer(
    ports: readonly [number, number],
    { families = [4, 4], bytes = 2_000_000, from = [0, 0], words = ["", ""], delayMs = 100 }: TransferOptions = {},
  ): Promise<[string, string]> {
    const leg = (side: 0 | 1): string => {
      const seeds = side === 0 ? [11, 22] : [22, 11];
      const way = this.way(side, ports, families[side], from[side]);
      return `tcp ${way} ${bytes} ${seeds[0]} ${bytes} ${seeds[1]} ${words[side]}`;
    };
    return this.legs(leg(0), leg(1), delayMs);
  }

  /** Both ends send datagrams until each has got some, or a minute is over. @returns how many came at `a` and at `b` */
  async datagrams(
    ports: readonly [number, number],
    size: number,
    { families = [4, 4], enough = 10 }: { families?: Families; enough?: number } = {},
  ): Promise<[number, number]> {
    const leg = (side: 0 | 1): string => `udp ${this.way(side, ports, families[side])} 600 ${size} 60 ${enough}`;
    const outputs = await this.legs(leg(0), leg(1));
    return outputs.map((output) => Number(/received (\d+)/.exec(output)![1])) as [number, number];
  }

  /** A first client gives up before its peer comes. @returns what is said until that one has ended, and its status */
  async meetOneThatGaveUp(ports: readonly [number, number]): Promise<string> {
    const { output } = await this.vm.run(`
      ip netns exec a timeout 1 ${BIN}/leg tcp ${this.way(0, ports)} 10 1 10 2
      ip netns exec b timeout 20 ${BIN}/leg tcp ${this.way(1, ports)} 10 2 10 1
      echo status $?
    `);
    return output;
  }

  /** Both send datagrams, and `b` ends long before `a`. @returns what `a` said */
  async outliveListener(ports: readonly [number, number], families: Families = [4, 4]): Promise<string> {
    const [a] = await this.legs(
      `udp ${this.way(0, ports, families[0])} 60 100 8`,
      `udp ${this.way(1, ports, families[1])} 20 100 2`,
    );
    return a;
  }

  /**
   * Runs a script of wire.c on a cell of its own, between addresses that are nobody's, at `a` and `b`.
   * @param words for the allocation; SYN-ACKs are not repeated unless these say so
   * @returns the splices that are there afterwards @throws VmError with what was not as it should be
   */
  async wire(
    script: string,
    { families = [4, 4], words = "timeout syn-ack 60000" }: WireOptions = {},
  ): Promise<string> {
    const ends = wireEnds(this.#ghosts++);
    const sources = ends.sources.flatMap((each, side) => each.map((address) => `source ${side} ${address}`)).join(" ");
    const { id, ports, request } = this.#nextCell(words, sources);
    return this.vm.check(`
      set -e
      ip netns exec i ${BIN}/istctl ${request}
      ${BIN}/wire ${ends.words(ports, families).join(" ")} <<'END'\n${script}\nEND
      ip netns exec i ${BIN}/istctl splices ${id}
    `);
  }

  /** What the stacks of both ends counted as wrong checksums since they came up. */
  async checksumErrors(): Promise<number> {
    const output = await this.vm.check(
      "for host in $(ls /run/netns); do ip netns exec $host nstat -asz | grep -i csumerr; done | awk '{ s += $2 } END { print s }'",
    );
    return Number(output.trim());
  }
}

export interface WireOptions {
  families?: Families;
  words?: string;
}

/** A passive cell alone in its allocation. */
export interface Cell {
  readonly id: number;
  readonly ports: readonly [number, number];
}

export interface TransferOptions {
  families?: Families;
  /** In each direction. */
  bytes?: number;
  /** Source ports; 0 is any. */
  from?: readonly [number, number];
  /** Further words for `leg`. */
  words?: readonly [string, string];
  /** How long `b` waits before it connects. */
  delayMs?: number;
}

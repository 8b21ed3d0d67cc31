import { execFileSync } from "node:child_process";
import { join, resolve } from "node:path";
import type { VirtualMachine } from "@isthmus/vm";

const TOOLS = resolve(import.meta.dirname, "../../../kernel/splice/test");

/**
 * Three hosts in a virtual machine: `a` and `b` reach nobody but the relay `i`, and each other through it only.
 *
 *   a 10.1.0.2, fd01::2 --- 10.1.0.1, fd01::1 i 10.2.0.1, fd02::1 --- r --- 10.3.0.2, fd03::2 b
 *
 * `r` is a plain router, where tests make a path narrow, lossy or slow.
 */
export const HOSTS = {
  a: { v4: "10.1.0.2", v6: "fd01::2", ist4: "10.1.0.1", ist6: "fd01::1" },
  b: { v4: "10.3.0.2", v6: "fd03::2", ist4: "10.2.0.1", ist6: "fd02::1" },
} as const;

/** The sources of both hosts, as words of istctl. */
export const SOURCES = "source 0 10.1.0.2 source 0 fd01::/64 source 1 10.3.0.2 source 1 fd03::/64";

const TOPOLOGY = `
set -e
for host in a i r b; do
  ip netns add $host
  ip -n $host link set lo up
done
ip link add a0 netns a type veth peer name i0 netns i
ip link add i1 netns i type veth peer name r0 netns r
ip link add r1 netns r type veth peer name b0 netns b
address() {
  ip -n $1 addr add $3 dev $2
  ip -n $1 addr add $4 dev $2 nodad
  ip -n $1 link set $2 up
}
address a a0 10.1.0.2/24 fd01::2/64
address i i0 10.1.0.1/24 fd01::1/64
address i i1 10.2.0.1/24 fd02::1/64
address r r0 10.2.0.3/24 fd02::3/64
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
ip netns exec r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
`;

/** The hosts and the tools that run on them. */
export class RelayHosts {
  readonly vm: VirtualMachine;
  readonly #bin: string;

  private constructor(vm: VirtualMachine) {
    this.vm = vm;
    this.#bin = vm.guestShare;
  }

  static async on(vm: VirtualMachine): Promise<RelayHosts> {
    for (const tool of ["istctl", "leg"]) {
      execFileSync("gcc", ["-O2", "-Wall", "-Wextra", "-Werror", "-o", join(vm.share, tool), join(TOOLS, `${tool}.c`)]);
    }
    await vm.check(TOPOLOGY);
    return new RelayHosts(vm);
  }

  async remove(): Promise<void> {
    await this.vm.check("for host in $(ls /run/netns); do ip netns del $host; done");
  }

  /** Asks the module on the relay. @throws VmError with the kernel's text */
  istctl(words: string): Promise<string> {
    return this.vm.check(`ip netns exec i ${this.#bin}/istctl ${words}`);
  }

  /** The kernel's refusal. */
  async refusal(words: string): Promise<string> {
    const { status, output } = await this.vm.run(`ip netns exec i ${this.#bin}/istctl ${words}`);
    return status === 0 ? "not refused" : output.trim();
  }

  /** Numbers of the relay's statistics by name; `rN` are the reasons, "ended/packets". */
  async stats(): Promise<Record<string, string>> {
    const words = (await this.istctl("stats")).trim().split(" ").slice(1);
    return Object.fromEntries(words.map((word) => word.split("=") as [string, string]));
  }

  on(host: "a" | "i" | "r" | "b", script: string): Promise<string> {
    return this.vm.check(`ip netns exec ${host} sh -e <<'END'\n${script}\nEND\n`);
  }

  /** Runs `leg` on both hosts at the same time, `b` after a while. @returns what they said */
  async legs(a: string, b: string, delayMs = 100): Promise<[string, string]> {
    const output = await this.vm.check(`
      ip netns exec a ${this.#bin}/leg ${a} >/tmp/a.out & pid=$!
      sleep ${delayMs / 1000}
      ip netns exec b ${this.#bin}/leg ${b} >/tmp/b.out; status=$?
      wait $pid || status="$status, a $?"
      cat /tmp/a.out; echo ----; cat /tmp/b.out
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
      const host = side === 0 ? HOSTS.a : HOSTS.b;
      const [own, ist] = families[side] === 4 ? [host.v4, host.ist4] : [host.v6, host.ist6];
      const seeds = side === 0 ? [11, 22] : [22, 11];
      return `tcp ${own} ${from[side]} ${ist} ${ports[side]} ${bytes} ${seeds[0]} ${bytes} ${seeds[1]} ${words[side]}`;
    };
    return this.legs(leg(0), leg(1), delayMs);
  }

  /** Both ends send datagrams. @returns how many came at `a` and at `b` */
  async datagrams(
    ports: readonly [number, number],
    size: number,
    { families = [4, 4], count = 40 }: { families?: readonly [4 | 6, 4 | 6]; count?: number } = {},
  ): Promise<[number, number]> {
    const leg = (side: 0 | 1): string => {
      const host = side === 0 ? HOSTS.a : HOSTS.b;
      const [own, ist] = families[side] === 4 ? [host.v4, host.ist4] : [host.v6, host.ist6];
      return `udp ${own} 0 ${ist} ${ports[side]} ${count} ${size} 6`;
    };
    const outputs = await this.legs(leg(0), leg(1));
    return outputs.map((output) => Number(/received (\d+)/.exec(output)![1])) as [number, number];
  }

  /** What the stacks of both ends counted as wrong checksums since they came up. */
  async checksumErrors(): Promise<number> {
    const output = await this.vm.check(
      "for host in a b i; do ip netns exec $host nstat -asz | grep -i csumerr; done | awk '{ s += $2 } END { print s }'",
    );
    return Number(output.trim());
  }
}

export interface TransferOptions {
  families?: readonly [4 | 6, 4 | 6];
  /** In each direction. */
  bytes?: number;
  /** Source ports; 0 is any. */
  from?: readonly [number, number];
  /** Further words for `leg`. */
  words?: readonly [string, string];
  /** How long `b` waits before it connects. */
  delayMs?: number;
}

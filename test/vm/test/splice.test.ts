import { buildModule, installedKernels, type KernelModule, VirtualMachine } from "@isthmus/vm";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { HOSTS, RelayHosts, SOURCES } from "./relay-hosts.ts";

/** A module is compiled, a machine boots, beside whatever else this host does. */
const SET_UP_MS = 600_000;

const [oldest] = installedKernels();

describe(`ist_splice on ${oldest?.version}`, () => {
  let module: KernelModule;
  let vm: VirtualMachine;
  let hosts: RelayHosts;
  let next = 0;

  beforeAll(async () => {
    module = buildModule("splice", oldest!);
    vm = await VirtualMachine.boot({ kernel: oldest! });
    await vm.load(module);
    hosts = await RelayHosts.on(vm);
  }, SET_UP_MS);

  afterAll(async () => {
    await vm?.stop();
  });

  beforeEach(() => {
    next++;
  });

  /** An allocation of one passive cell with ports of its own. */
  async function cell(words = ""): Promise<[number, number]> {
    const ports: [number, number] = [20_000 + 2 * next, 20_001 + 2 * next];
    await hosts.istctl(`new ${next} ${SOURCES} cell 0 passive ${ports[0]} ${ports[1]} ${words}`);
    return ports;
  }

  it("compiles without a warning and says what it is", async () => {
    expect(module.log.split("\n").filter((line) => /warning|error/i.test(line))).toEqual([]);
    const info = await vm.check(`/sbin/modinfo ${module.file}`);
    for (const field of ["description", "author", "license", "version", "parm"]) {
      expect(info).toMatch(new RegExp(`^${field}:\\s+\\S`, "m"));
    }
  });

  describe("TCP", () => {
    it.each([
      [4, 4],
      [6, 6],
      [4, 6],
      [6, 4],
    ] as const)("passes a Passive Splice of IPv%i and IPv%i", async (...families) => {
      const before = await hosts.stats();
      await hosts.transfer(await cell(), { families, bytes: 4_000_000 });
      const after = await hosts.stats();
      expect(Number(after.bytes) - Number(before.bytes)).toBeGreaterThanOrEqual(8_000_000);
      expect(await hosts.checksumErrors()).toBe(0);
    });

    it("passes a Pure Splice whose ports were agreed on, unchanged", async () => {
      await hosts.istctl(`new ${next} ${SOURCES} cell 0 pure 6666 5555 5555 6666`);
      await hosts.transfer([6666, 5555], { from: [5555, 6666] });
      const splices = await hosts.istctl(`splices ${next}`);
      expect(splices).toContain("10.1.0.2:5555>10.1.0.1:6666");
      expect(splices).toContain("10.3.0.2:6666>10.2.0.1:5555");
      expect(await hosts.checksumErrors()).toBe(0);
    });

    it("passes a Pure Splice that learns the port of a side which cannot choose it (T, figure 4.7)", async () => {
      const port = 21_000;
      await hosts.istctl(`new ${next} ${SOURCES} cell 0 pure ${port} 0 0 ${port}`);
      const leg = `${vm.guestShare}/leg tcp`;
      const output = await vm.check(`
        ip netns exec i ${vm.guestShare}/istctl events 20 >/tmp/events & events=$!
        sleep 0.5
        ip netns exec a ${leg} 10.1.0.2 0 10.1.0.1 ${port} 100000 1 100000 2 & a=$!
        while ! grep -q half /tmp/events; do sleep 0.1; done
        learned=$(sed -n 's/^half.*from=10.1.0.2:\\([0-9]*\\) .*/\\1/p' /tmp/events)
        ip netns exec i ${vm.guestShare}/istctl set ${next} cell 0 pure ${port} $learned 0 ${port}
        ip netns exec b ${leg} 10.3.0.2 ${port} 10.2.0.1 $learned 100000 2 100000 1 || exit 1
        wait $a || exit 1
        kill $events
        echo learned $learned
        ip netns exec i ${vm.guestShare}/istctl splices ${next}
      `);
      const [, learned] = /learned (\d+)/.exec(output)!;
      expect(output).toContain(`10.1.0.2:${learned}>10.1.0.1:${port}`);
      expect(output).toContain(`10.3.0.2:${port}>10.2.0.1:${learned}`);
    });

    it("tells listeners of each step", async () => {
      const ports = await cell();
      const done = vm.check(`ip netns exec i timeout 40 ${vm.guestShare}/istctl events 6`);
      await vm.check("sleep 1");
      await hosts.transfer(ports, { bytes: 10_000, delayMs: 500 });
      const events = (await done).split("\n").filter((line) => line.includes(`alloc=${next} `));
      expect(events[0]).toMatch(/^half .*side=0 from=10\.1\.0\.2:\d+ reason=0$/);
      const states = events.slice(1).map((line) => /state=(\d)/.exec(line)?.[1]);
      expect(states).toEqual(["2", "3", "4", "5"]);
      expect(events.at(-1)).toContain("reason=1 ");
    });

    it("answers again by itself when its SYN-ACK is lost", async () => {
      const ports = await cell();
      // The first SYN-ACK of each connection to `a` is lost; the client's own repetition would come after 1 s.
      await hosts.on(
        "a",
        `nft -f - <<NFT
table ip lose {
  set seen { type inet_service; flags dynamic; timeout 1m; }
  chain in {
    type filter hook input priority 0;
    tcp flags & (syn|ack) == (syn|ack) tcp dport != @seen add @seen { tcp dport } drop
  }
}
NFT`,
      );
      const [a] = await hosts.transfer(ports, { bytes: 50_000, delayMs: 200 });
      await hosts.on("a", "nft delete table ip lose");
      const [, seconds] = /connected ([\d.]+) s/.exec(a)!;
      expect(Number(seconds)).toBeGreaterThan(0.4);
      expect(Number(seconds)).toBeLessThan(1);
    });

    it("survives a hold of several SYN repetitions", async () => {
      const ports = await cell("timeout half 30000");
      const [a] = await hosts.transfer(ports, { bytes: 50_000, delayMs: 5000 });
      expect(Number(/connected ([\d.]+) s/.exec(a)![1])).toBeGreaterThan(4.5);
    });

    it.each([
      ["timestamps", "net.ipv4.tcp_timestamps"],
      ["SACK", "net.ipv4.tcp_sack"],
      ["window scale", "net.ipv4.tcp_window_scaling"],
    ])("agrees on the options of both when one side has no %s", async (_, setting) => {
      for (const host of ["a", "b"] as const) {
        await hosts.on(host, `sysctl -qw ${setting}=0`);
        await hosts.transfer(await cell(), { bytes: 500_000 });
        await hosts.on(host, `sysctl -qw ${setting}=1`);
        next++;
      }
    });

    it("agrees on ECN when both ask for it", async () => {
      for (const host of ["a", "b"] as const) await hosts.on(host, "sysctl -qw net.ipv4.tcp_ecn=1");
      const both = await hosts.transfer(await cell(), { bytes: 100_000 });
      await hosts.on("b", "sysctl -qw net.ipv4.tcp_ecn=0");
      next++;
      const one = await hosts.transfer(await cell(), { bytes: 100_000 });
      await hosts.on("a", "sysctl -qw net.ipv4.tcp_ecn=2");
      await hosts.on("b", "sysctl -qw net.ipv4.tcp_ecn=2");
      // tcpi_options: 8 is TCPI_OPT_ECN.
      expect(both.map((text) => Number(/options (\d+)/.exec(text)![1]) & 8)).toEqual([8, 8]);
      expect(one.map((text) => Number(/options (\d+)/.exec(text)![1]) & 8)).toEqual([0, 0]);
    });

    it("loses nothing over a path that loses and reorders", async () => {
      await hosts.on("r", "tc qdisc add dev r1 root netem delay 5ms reorder 25% loss 3%");
      await hosts.on("r", "tc qdisc add dev r0 root netem delay 5ms reorder 25% loss 3%");
      await hosts.transfer(await cell(), { bytes: 1_000_000 });
      await hosts.on("r", "tc qdisc del dev r1 root; tc qdisc del dev r0 root");
      expect(await hosts.checksumErrors()).toBe(0);
    });

    it.each([
      [4, 4],
      [6, 6],
      [4, 6],
      [6, 4],
    ] as const)("finds the MTU of a path of 1,400 bytes behind a router, IPv%i and IPv%i", async (...families) => {
      await hosts.on("r", "ip link set r1 mtu 1400; ip route flush cache; ip -6 route flush cache");
      await hosts.on("b", "ip link set b0 mtu 1400");
      const [a] = await hosts.transfer(await cell(), { families, bytes: 1_000_000 });
      await hosts.on("r", "ip link set r1 mtu 1500");
      await hosts.on("b", "ip link set b0 mtu 1500");
      await hosts.on("i", "ip route flush cache; ip -6 route flush cache");
      expect(a).toContain("done");
    });

    it("works with every offload switched off, and on again", async () => {
      const all = "tx off rx off gso off gro off tso off";
      await vm.check(`for at in a/a0 i/i0 i/i1 r/r0 r/r1 b/b0; do
        ip netns exec \${at%/*} ethtool -K \${at#*/} ${all} >/dev/null; done`);
      await hosts.transfer(await cell(), { bytes: 1_000_000 });
      await vm.check(`for at in a/a0 i/i0 i/i1 r/r0 r/r1 b/b0; do
        ip netns exec \${at%/*} ethtool -K \${at#*/} ${all.replaceAll("off", "on")} >/dev/null; done`);
      expect(await hosts.checksumErrors()).toBe(0);
    });

    it("passes a firewall that drops what connection tracking calls invalid", async () => {
      await hosts.on(
        "i",
        `nft -f - <<NFT
table inet guard {
  chain input { type filter hook input priority 0; ct state invalid counter drop; }
  chain output { type filter hook output priority 0; ct state invalid counter drop; }
}
NFT`,
      );
      await hosts.transfer(await cell(), { bytes: 3_000_000 });
      const rules = await hosts.on("i", "nft list table inet guard; nft delete table inet guard");
      expect(rules).not.toMatch(/packets [1-9]/);
    });

    it("passes a reset as a reset, and keeps the other direction of a half-closed connection", async () => {
      const ports = await cell();
      const [a, b] = [HOSTS.a, HOSTS.b];
      await hosts.legs(
        `tcp ${a.v4} 0 ${a.ist4} ${ports[0]} 0 1 300000 2 half`,
        `tcp ${b.v4} 0 ${b.ist4} ${ports[1]} 300000 2 0 1`,
      );
      const { output } = await vm.run(`
        ip netns exec a ${vm.guestShare}/leg tcp ${a.v4} 0 ${a.ist4} ${ports[0]} 10 1 0 2 reset & 
        ip netns exec b ${vm.guestShare}/leg tcp ${b.v4} 0 ${b.ist4} ${ports[1]} 0 2 1000 1; wait
      `);
      expect(output).toMatch(/Connection reset by peer/);
    });

    it("tells both ends when their splice is taken away", async () => {
      const ports = await cell();
      const [a, b] = [HOSTS.a, HOSTS.b];
      const { output } = await vm.run(`
        ip netns exec a ${vm.guestShare}/leg tcp ${a.v4} 0 ${a.ist4} ${ports[0]} 10 1 1000 2 hold 9 &
        ip netns exec b ${vm.guestShare}/leg tcp ${b.v4} 0 ${b.ist4} ${ports[1]} 10 2 1000 1 hold 9 &
        sleep 1
        ip netns exec i ${vm.guestShare}/istctl del ${next}
        wait
      `);
      expect(output.match(/Connection reset by peer/g)).toHaveLength(2);
    });
  });

  describe("UDP", () => {
    it.each([
      ["IPv4", [4, 4], 1000],
      ["IPv4 in fragments", [4, 4], 6000],
      ["IPv6", [6, 6], 1000],
      ["IPv6 in fragments", [6, 6], 6000],
      ["IPv4 and IPv6", [4, 6], 1000],
      ["IPv4 and IPv6 in fragments", [4, 6], 3000],
      ["IPv6 and IPv4 in fragments", [6, 4], 3000],
    ] as const)("passes datagrams over %s", async (_, families, size) => {
      const [atA, atB] = await hosts.datagrams(await cell(), size, { families });
      // The first ones, until both sides are known, are lost.
      expect(atA).toBeGreaterThan(10);
      expect(atB).toBeGreaterThan(10);
      expect(await hosts.checksumErrors()).toBe(0);
    });
  });

  describe("admission", () => {
    it("never answers a stranger, and counts it", async () => {
      const port = 20_000 + 2 * next;
      await hosts.istctl(`new ${next} source 0 10.9.9.9 source 1 10.3.0.2 cell 0 passive ${port} ${port + 1}`);
      const before = Number((await hosts.stats()).r15?.split("/")[1] ?? 0);
      const { output } = await vm.run(
        `timeout 3 ip netns exec a ${vm.guestShare}/leg tcp 10.1.0.2 0 10.1.0.1 ${port} 1 1 1 1; echo status $?`,
      );
      expect(output).toContain("status 124");
      expect(Number((await hosts.stats()).r15!.split("/")[1])).toBeGreaterThanOrEqual(before + 2);
    });

    it("ends a splice that carried its bytes, and one that is idle", async () => {
      const ports = await cell("limit bytes 100000");
      const { output } = await vm.run(`
        ip netns exec a ${vm.guestShare}/leg tcp 10.1.0.2 0 10.1.0.1 ${ports[0]} 200000 1 1000 2 &
        ip netns exec b ${vm.guestShare}/leg tcp 10.3.0.2 0 10.2.0.1 ${ports[1]} 0 2 200000 1; wait
      `);
      expect(output.match(/Connection reset by peer/g)?.length).toBeGreaterThanOrEqual(1);
      expect((await hosts.stats()).r7).toMatch(/^1\//);
      await hosts.istctl(`set ${next} limit bytes 0 limit idle 700`);
      const idle = await vm.run(`
        ip netns exec a ${vm.guestShare}/leg tcp 10.1.0.2 0 10.1.0.1 ${ports[0]} 10 1 1000 2 hold 9 &
        ip netns exec b ${vm.guestShare}/leg tcp 10.3.0.2 0 10.2.0.1 ${ports[1]} 10 2 1000 1 hold 9; wait
      `);
      expect(idle.output.match(/Connection reset by peer/g)).toHaveLength(2);
    });

    it("ends an allocation whose lifetime is over", async () => {
      await cell("lifetime 500");
      await vm.check("sleep 3");
      expect(await hosts.refusal(`del ${next}`)).toContain("there is no such allocation");
    });
  });

  describe("netlink", () => {
    it.each([
      ["new 1000 cell 0 passive 0 5", "cell: port0 and port1 are required"],
      ["new 1000 cell 0 passive 5 5", "port1: the same as port0"],
      ["new 1000 cell 0 passive 50 51 cell 0 passive 52 53", "cell: the number is there twice"],
      ["new 1000 cell 0 passive 50 51 cell 1 passive 52 51", "port1: another cell has it"],
      ["new 1000 cell 0 pure 5 6 7 8", "in a pure cell a side's port is the other's remote-port"],
      ["new 1000 source 0 10.0.0.1/33", "prefix: longer than the address"],
      ["new 1000 source 0 ::ffff:1.2.3.4", "address: IPv4 in IPv6 is to be given as 4 bytes"],
      ["new 1000 source 3 10.0.0.1", "out of range"],
      ["new 1000 timeout half 1", "out of range"],
      ["new 1000 timeout half 131000", "out of range"],
      ["del 1000", "id: there is no such allocation"],
      ["set 1000 lifetime 5", "id: there is no such allocation"],
      ["kill 99999", "id: there is no such splice"],
      ["raw 1 08000c0001000000", "id: required"],
      ["raw 1 00", "bytes leftover after parsing attributes"],
      ["raw 1 0500010001000000", "invalid attribute length"],
      ["raw 1 0800ff7f00000000", "Unknown attribute type"],
      ["raw 99 00", "Operation not supported"],
    ])("refuses `%s` with a text", async (words, text) => {
      expect(await hosts.refusal(words)).toMatch(new RegExp(text));
      expect(await hosts.istctl("allocs")).not.toContain("id=1000 ");
    });

    it("refuses who may not administer the namespace", async () => {
      const { output } = await vm.run(
        `ip netns exec i setpriv --bounding-set -all --inh-caps -all --reuid 65534 --clear-groups ${vm.guestShare}/istctl new 1 2>&1`,
      );
      expect(output).toContain("Operation not permitted");
    });

    it("keeps namespaces apart", async () => {
      await cell();
      expect(await vm.check(`ip netns exec b ${vm.guestShare}/istctl allocs`)).toBe("");
    });

    it("shows more than fits into one message, complete", async () => {
      const cells = Array.from({ length: 250 }, (_, n) => `cell ${n} passive ${30_000 + 2 * n} ${30_001 + 2 * n}`);
      for (let n = 0; n < 3; n++) {
        const own = cells.slice(80 * n, 80 * (n + 1)).join(" ");
        await hosts.istctl(`new ${5000 + n} ${SOURCES} ${own}`);
      }
      await hosts.istctl(`set 5000 ${cells.slice(240).join(" ")}`);
      const dump = (await hosts.istctl("allocs")).split("\n");
      const shown = (id: number): number =>
        dump
          .filter((line) => line.startsWith(`alloc id=${id} `))
          .reduce((sum, line) => sum + Number(/cells=(\d+)/.exec(line)![1]), 0);
      expect([shown(5000), shown(5001), shown(5002)]).toEqual([90, 80, 80]);
      for (let n = 0; n < 3; n++) await hosts.istctl(`del ${5000 + n}`);
    });
  });

  it("outlives the removal of a namespace with busy splices", async () => {
    const ports = await cell();
    await vm.run(`
      ip netns exec a timeout 20 ${vm.guestShare}/leg tcp 10.1.0.2 0 10.1.0.1 ${ports[0]} 100000000 1 100000000 2 &
      ip netns exec b timeout 20 ${vm.guestShare}/leg tcp 10.3.0.2 0 10.2.0.1 ${ports[1]} 100000000 2 100000000 1 &
      sleep 2
      ip netns del i
      wait
    `);
    await hosts.remove();
    hosts = await RelayHosts.on(vm);
    await hosts.transfer(await cell(), { bytes: 100_000 });
  });

  it("can be unloaded under traffic, and loaded again", async () => {
    const ports = await cell();
    await vm.run(`
      ip netns exec a timeout 20 ${vm.guestShare}/leg tcp 10.1.0.2 0 10.1.0.1 ${ports[0]} 100000000 1 100000000 2 &
      ip netns exec b timeout 20 ${vm.guestShare}/leg tcp 10.3.0.2 0 10.2.0.1 ${ports[1]} 100000000 2 100000000 1 &
      sleep 2
      /sbin/rmmod ist_splice
      wait
    `);
    await vm.load(module);
    await hosts.transfer(await cell());
    await hosts.remove();
    await vm.check("/sbin/rmmod ist_splice");
  });

  it("leaves no complaint of the kernel behind", () => {
    expect(vm.complaints()).toEqual([]);
  });
});

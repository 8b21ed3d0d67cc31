import { kernelsUnderTest } from "@isthmus/vm";
import { expect, it } from "vitest";
import { describeNats, firewall } from "../../../kernel/splice/test/nats.suite.ts";
import { ALL_FAMILIES } from "../../../kernel/splice/test/relay-topology.ts";
import { bootRelay, type RelayHosts } from "./relay-hosts.ts";

const ABILITIES = { families: ALL_FAMILIES, learnsMtu: true, setsDontFragment: true };

for (const kernel of kernelsUnderTest()) {
  const start = async () => {
    const { vm, hosts } = await bootRelay(kernel, { behindNats: true });
    return { relay: hosts, stop: () => vm.stop() };
  };
  describeNats<RelayHosts>(`ist_splice between two NATs on ${kernel.version}`, start, ABILITIES, alsoOfModule);
}

/** What needs netem, and the module's own tool. */
function alsoOfModule(relay: () => RelayHosts): void {
  it("passes a Pure Splice that learns the port by which a NAT sends (T, figure 4.7)", async () => {
    const port = 21_000;
    const hosts = relay();
    const { vm } = hosts;
    const leg = `${vm.guestShare}/leg tcp`;
    const { a, b } = hosts.addresses;
    await hosts.istctl(`new 7 ${hosts.sources} cell 0 pure ${port} 0 0 ${port} timeout half 30000`);
    const output = await vm.check(`
      ip netns exec i ${vm.guestShare}/istctl events 60 >/tmp/events & events=$!
      until grep -q listening /tmp/events; do sleep 0.1; done
      ip netns exec a ${leg} ${a.v4} 0 ${a.ist4} ${port} 100000 1 100000 2 & a=$!
      until grep -q half /tmp/events; do sleep 0.1; done
      learned=$(sed -n 's/^half.*from=10.1.0.2:\\([0-9]*\\) .*/\\1/p' /tmp/events)
      ip netns exec i ${vm.guestShare}/istctl set 7 cell 0 pure ${port} $learned 0 ${port}
      ip netns exec b ${leg} ${b.v4} ${port} ${b.ist4} $learned 100000 2 100000 1 || exit 1
      wait $a || exit 1
      kill $events
      echo learned $learned
      ip netns exec i ${vm.guestShare}/istctl splices 7
    `);
    const [, learned] = /learned (\d+)/.exec(output)!;
    expect(output).toContain(`10.1.0.2:${learned}>10.1.0.1:${port}`);
    expect(output).toContain(`10.2.0.3:${port}>10.2.0.1:${learned}`);
  });

  it("loses nothing over paths that lose 3 % and reorder, in front of a strict firewall", async () => {
    const hosts = relay();
    await hosts.on("i", firewall("counting"));
    for (const [host, device] of [
      ["q", "q0"],
      ["r", "r0"],
      ["r", "r1"],
    ] as const) {
      await hosts.on(host, `tc qdisc add dev ${device} root netem delay 5ms reorder 25% loss 3%`);
    }
    await hosts.transfer((await hosts.cell()).ports, { bytes: 500_000 });
    await hosts.vm.check(
      "ip netns exec q tc qdisc del dev q0 root; for d in r0 r1; do ip netns exec r tc qdisc del dev $d root; done",
    );
    const rules = await hosts.on("i", "nft list table inet counting; nft delete table inet counting");
    expect(rules).not.toMatch(/packets [1-9]/);
  });
}

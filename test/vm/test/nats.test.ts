import { kernelsUnderTest, type VirtualMachine } from "@isthmus/vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ALL_FAMILIES } from "../../../kernel/splice/test/relay-topology.ts";
import { bootRelay, type RelayHosts } from "./relay-hosts.ts";

/** What many an administrator has; it must not see anything wrong in splices, nor in errors about them. */
function firewall(name: string): string {
  return `nft -f - <<NFT
table inet ${name} {
  chain input { type filter hook input priority 0; ct state invalid counter drop; }
  chain output { type filter hook output priority 0; ct state invalid counter drop; }
}
NFT`;
}

describe.each(kernelsUnderTest())("ist_splice between two NATs on $version", (kernel) => {
  let vm: VirtualMachine;
  let hosts: RelayHosts;

  beforeAll(async () => {
    ({ vm, hosts } = await bootRelay(kernel, { behindNats: true }));
    await hosts.on("i", firewall("guard"));
  });

  afterAll(async () => {
    await vm?.stop();
  });

  it.each(ALL_FAMILIES)("passes a Passive Splice of IPv%i and IPv%i", async (...families) => {
    const { id, ports } = await hosts.cell();
    await hosts.transfer(ports, { families, bytes: 2_000_000 });
    const splices = await hosts.istctl(`splices ${id}`);
    expect(splices).toContain(families[0] === 4 ? "10.1.0.2:" : "fd01::2:");
    expect(splices).toContain(families[1] === 4 ? "10.2.0.3:" : "fd02::3:");
  });

  it.each([4, 6] as const)("passes a Pure Splice whose ports were agreed on, IPv%i", async (family) => {
    const port = 6000 + family;
    await hosts.istctl(`new ${family} ${hosts.sources} cell 0 pure ${port} 5555 5555 ${port}`);
    await hosts.transfer([port, 5555], { from: [5555, port], families: [family, family], bytes: 1_000_000 });
    const splices = await hosts.istctl(`splices ${family}`);
    expect(splices).toMatch(new RegExp(`${family === 4 ? "10.1.0.2" : "fd01::2"}:5555>\\S+:${port}=`));
    expect(splices).toMatch(new RegExp(`${family === 4 ? "10.2.0.3" : "fd02::3"}:${port}>\\S+:5555=`));
    await hosts.istctl(`del ${family}`);
  });

  it("passes a Pure Splice that learns the port by which a NAT sends (T, figure 4.7)", async () => {
    const port = 21_000;
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

  it.concurrent.each(ALL_FAMILIES)(
    "passes datagrams of 3,000 bytes in fragments, IPv%i and IPv%i",
    async (...families) => {
      const [atA, atB] = await hosts.datagrams((await hosts.cell()).ports, 3000, { families });
      expect(Math.min(atA, atB)).toBeGreaterThanOrEqual(10);
    },
  );

  it.concurrent("passes datagrams of 6 KB in fragments", async () => {
    const [atA, atB] = await hosts.datagrams((await hosts.cell()).ports, 6144);
    expect(Math.min(atA, atB)).toBeGreaterThanOrEqual(10);
  });

  it.concurrent("waits for a peer that comes after 5 s", async () => {
    const { ports } = await hosts.cell("timeout half 30000");
    await hosts.transfer(ports, { bytes: 50_000, delayMs: 5000 });
  });

  it("tells a second client at once that the first one gave up, and the next pair succeeds", async () => {
    const { ports } = await hosts.cell();
    expect(await hosts.meetOneThatGaveUp(ports)).toMatch(/Connection (reset by peer|refused)\nstatus 2/);
    await hosts.transfer(ports, { bytes: 10_000 });
  });

  it("tells a sender of datagrams that nobody listens any more", async () => {
    const { ports } = await hosts.cell();
    expect(await hosts.outliveListener(ports)).toMatch(/errors [1-9]\d* \(Connection refused\)/);
  });

  it.each([
    [4, 4, 1348],
    [6, 6, 1328],
    [4, 6, 1328],
    [6, 4, 1348],
  ] as const)("finds the MTU of a hop of 1,400 bytes behind one NAT, IPv%i and IPv%i", async (...[a, b, mss]) => {
    const forget = "ip route flush cache; ip -6 route flush cache";
    const toldTooBig = async (): Promise<number> => Number((await hosts.stats()).r20?.split("/")[1] ?? 0);
    const mssOf = (said: string): number => Number(/ mss (\d+) /.exec(said)![1]);
    // The link itself stays wide, so that b offers what does not fit, and a has to be told.
    await hosts.on(
      "r",
      `ip route change 192.168.3.0/24 dev r1 mtu 1400
      ip -6 route change fd13::/64 dev r1 metric 256 mtu 1400`,
    );
    for (const host of ["a", "q", "i", "r"] as const) await hosts.on(host, forget);

    // Both are open before anybody knows. The first is told by r, and the relay learns from that.
    const [first, second] = [await hosts.cell(), await hosts.cell()];
    const [early, late] = [first, second].map(({ id, ports }) =>
      hosts.transfer(ports, { families: [a, b], bytes: 500_000, words: [`go /tmp/go-${id}`, ""] }),
    );
    for (const { id } of [first, second]) {
      await vm.check(
        `until ip netns exec i ${vm.guestShare}/istctl splices ${id} | grep -q state=3; do sleep 0.1; done`,
      );
    }
    await vm.check(`touch /tmp/go-${first.id}`);
    expect(mssOf((await early!)[0])).toBeGreaterThan(mss);
    const before = await toldTooBig();
    // The second is told by the relay itself, since a has forgotten.
    await hosts.on("a", `${forget}; touch /tmp/go-${second.id}`);
    expect(mssOf((await late!)[0])).toBeGreaterThan(mss);
    expect(await toldTooBig()).toBeGreaterThan(before);
    // The third knows from the start.
    const [third] = await hosts.transfer((await hosts.cell()).ports, { families: [a, b], bytes: 200_000 });
    expect(mssOf(third)).toBe(mss);

    await hosts.on(
      "r",
      `ip route change 192.168.3.0/24 dev r1
      ip -6 route change fd13::/64 dev r1 metric 256`,
    );
    for (const host of ["a", "q", "i", "r"] as const) await hosts.on(host, forget);
  });

  it("loses nothing over paths that lose 3 % and reorder, in front of a strict firewall", async () => {
    await hosts.on("i", firewall("counting"));
    for (const [host, device] of [
      ["q", "q0"],
      ["r", "r0"],
      ["r", "r1"],
    ] as const) {
      await hosts.on(host, `tc qdisc add dev ${device} root netem delay 5ms reorder 25% loss 3%`);
    }
    await hosts.transfer((await hosts.cell()).ports, { bytes: 500_000 });
    await vm.check(
      "ip netns exec q tc qdisc del dev q0 root; for d in r0 r1; do ip netns exec r tc qdisc del dev $d root; done",
    );
    const rules = await hosts.on("i", "nft list table inet counting; nft delete table inet counting");
    expect(rules).not.toMatch(/packets [1-9]/);
  });

  it("leaves no wrong checksum and no complaint of the kernel behind", async () => {
    expect(await hosts.checksumErrors()).toBe(0);
    expect(await hosts.unload()).toEqual([]);
  });
});

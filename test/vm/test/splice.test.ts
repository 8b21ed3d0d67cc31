import { type KernelModule, kernelsUnderTest, type VirtualMachine } from "@isthmus/vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ALL_FAMILIES, HOSTS } from "../../../kernel/splice/test/relay-topology.ts";
import { bootRelay, type RelayHosts, SOURCES } from "./relay-hosts.ts";

describe.each(kernelsUnderTest())("ist_splice on $version", (kernel) => {
  let module: KernelModule;
  let vm: VirtualMachine;
  let hosts: RelayHosts;

  beforeAll(async () => {
    ({ module, vm, hosts } = await bootRelay(kernel));
  });

  afterAll(async () => {
    await vm?.stop();
  });

  it("compiles without a warning and says what it is", async () => {
    expect(module.log.split("\n").filter((line) => /warning|error/i.test(line))).toEqual([]);
    const info = await vm.check(`/sbin/modinfo ${module.file}`);
    for (const field of ["description", "author", "license", "version", "parm"]) {
      expect(info).toMatch(new RegExp(`^${field}:\\s+\\S`, "m"));
    }
  });

  describe("TCP", () => {
    it.each(ALL_FAMILIES)(
      "passes a Passive Splice of IPv%i and IPv%i, in the stacks' large packets",
      async (...families) => {
        const { ports } = await hosts.cell();
        const before = await hosts.stats();
        await hosts.transfer(ports, { families, bytes: 4_000_000 });
        const after = await hosts.stats();
        const grown = (name: string): number => Number(after[name]) - Number(before[name]);
        expect(grown("bytes")).toBeGreaterThanOrEqual(8_000_000);
        // In segments of 1,448 bytes it would be more, without any acknowledgment.
        expect(grown("packets")).toBeLessThan(8_000_000 / 1448);
      },
    );

    it("passes a Pure Splice whose ports were agreed on, unchanged", async () => {
      await hosts.istctl(`new 1 ${SOURCES} cell 0 pure 6666 5555 5555 6666`);
      await hosts.transfer([6666, 5555], { from: [5555, 6666] });
      const splices = await hosts.istctl("splices 1");
      expect(splices).toContain("10.1.0.2:5555>10.1.0.1:6666");
      expect(splices).toContain("10.3.0.2:6666>10.2.0.1:5555");
    });

    it("tells listeners of each step", async () => {
      const { id, ports } = await hosts.cell();
      const done = vm.check(`
        ip netns exec i ${vm.guestShare}/istctl events 100 >/tmp/events & events=$!
        until grep -q 'alloc=${id} .*state=5' /tmp/events; do sleep 0.2; done
        kill $events
        cat /tmp/events
      `);
      await vm.check("until grep -q listening /tmp/events; do sleep 0.1; done");
      await hosts.transfer(ports, { bytes: 10_000, delayMs: 500 });
      const events = (await done).split("\n").filter((line) => line.includes(`alloc=${id} `));
      expect(events[0]).toMatch(/^half .*side=0 from=10\.1\.0\.2:\d+ reason=0$/);
      const states = events.slice(1).map((line) => /state=(\d)/.exec(line)?.[1]);
      expect(states).toEqual(["2", "3", "4", "5"]);
      expect(events.at(-1)).toContain("reason=1 ");
    });

    it("tells both ends when their splice is taken away", async () => {
      const { id, ports } = await hosts.cell();
      const { output } = await vm.run(`
        ip netns exec a ${vm.guestShare}/leg tcp ${hosts.way(0, ports)} 10 1 1000 2 hold 9 &
        ip netns exec b ${vm.guestShare}/leg tcp ${hosts.way(1, ports)} 10 2 1000 1 hold 9 &
        until ip netns exec i ${vm.guestShare}/istctl splices ${id} | grep -q 'state=3 .*=10 .*=10'; do sleep 0.1; done
        ip netns exec i ${vm.guestShare}/istctl del ${id}
        wait
      `);
      expect(output.match(/Connection reset by peer/g)).toHaveLength(2);
    });

    it("takes no packet by a remembered route when its address is gone, and goes on when that is back", async () => {
      const { id, ports } = await hosts.cell();
      const splices = await vm.check(
        `ip netns exec a ${vm.guestShare}/leg tcp ${hosts.way(0, ports)} 50000 1 0 2 wait 10000 & a=$!
        ip netns exec b ${vm.guestShare}/leg tcp ${hosts.way(1, ports)} 0 2 50000 1 & b=$!
        splices() { ip netns exec i ${vm.guestShare}/istctl splices ${id}; }
        until splices | grep -q state=4; do sleep 0.1; done
        ip -n i addr del ${HOSTS.a.ist4}/24 dev i0
        splices
        until ip netns exec a ss -tin dport = ${ports[0]} | grep -q retrans:; do sleep 0.1; done
        splices
        ip -n i addr add ${HOSTS.a.ist4}/24 dev i0
        wait $a || exit 1
        wait $b || exit 1
        splices`,
      );
      const [established, gone, back] = splices.split("\n").filter((line) => line.includes("state="));
      expect(established).toMatch(/ state=4 .*=0 .*=0$/);
      expect(gone).toMatch(/ state=4 .*=0 .*=0$/);
      // What a sent anew before it heard of its arrival passed as well.
      const passed = / state=5 .*=(\d+) .*=0$/.exec(back!);
      expect(Number(passed?.[1]), back).toBeGreaterThanOrEqual(50_000);
    });
  });

  describe("UDP", () => {
    it.concurrent.each([
      ["IPv4", [4, 4], 1000],
      ["IPv4 in fragments", [4, 4], 6000],
      ["IPv6", [6, 6], 1000],
      ["IPv6 in fragments", [6, 6], 6000],
      ["IPv4 and IPv6", [4, 6], 1000],
      ["IPv4 and IPv6 in fragments", [4, 6], 3000],
      ["IPv6 and IPv4 in fragments", [6, 4], 3000],
    ] as const)("passes datagrams over %s", async (_, families, size) => {
      const [atA, atB] = await hosts.datagrams((await hosts.cell()).ports, size, { families });
      expect(Math.min(atA, atB)).toBeGreaterThanOrEqual(10);
    });
  });

  describe("admission", () => {
    it("never answers a stranger, and counts it", async () => {
      await hosts.istctl("new 2 source 0 10.9.9.9 source 1 10.3.0.2 cell 0 passive 20000 20001");
      const before = Number((await hosts.stats()).r15?.split("/")[1] ?? 0);
      const { output } = await vm.run(
        `timeout 3 ip netns exec a ${vm.guestShare}/leg tcp 10.1.0.2 0 10.1.0.1 20000 1 1 1 1; echo status $?`,
      );
      expect(output).toContain("status 124");
      expect(Number((await hosts.stats()).r15!.split("/")[1])).toBeGreaterThanOrEqual(before + 2);
    });

    it("ends a splice that carried its bytes, and one that is idle", async () => {
      const { id, ports } = await hosts.cell({ words: "limit bytes 100000" });
      const { output } = await vm.run(`
        ip netns exec a ${vm.guestShare}/leg tcp ${hosts.way(0, ports)} 200000 1 1000 2 &
        ip netns exec b ${vm.guestShare}/leg tcp ${hosts.way(1, ports)} 0 2 200000 1 hold 9; wait
      `);
      expect(output.match(/Connection reset by peer|Broken pipe/g)).toHaveLength(2);
      expect((await hosts.stats()).r7).toMatch(/^1\//);
      await hosts.istctl(`set ${id} limit bytes 0 limit idle 700`);
      const idle = await vm.run(`
        ip netns exec a ${vm.guestShare}/leg tcp ${hosts.way(0, ports)} 10 1 1000 2 hold 9 &
        ip netns exec b ${vm.guestShare}/leg tcp ${hosts.way(1, ports)} 10 2 1000 1 hold 9; wait
      `);
      expect(idle.output.match(/Connection reset by peer/g)).toHaveLength(2);
    });

    it("remembers no more splices that are over than there may be at once", async () => {
      const remembered = async (words: string): Promise<string[]> => {
        const { id, ports } = await hosts.cell({ words });
        for (let n = 0; n < 4; n++) await hosts.transfer(ports, { bytes: 1000 });
        return (await hosts.istctl(`splices ${id}`)).split("\n").filter((line) => line.includes("state=5"));
      };
      expect(await remembered("")).toHaveLength(4);
      expect(await remembered("limit splices 2")).toHaveLength(2);
      const { lingering } = await hosts.stats();
      expect(Number(lingering)).toBeGreaterThanOrEqual(6);
    });

    it("ends an allocation whose lifetime is over", async () => {
      const { id } = await hosts.cell({ words: "lifetime 500" });
      await vm.check("sleep 3");
      expect(await hosts.refusal(`del ${id}`)).toContain("there is no such allocation");
    });
  });

  it("leaves no complaint of the kernel behind", async () => {
    expect(await hosts.checksumErrors()).toBe(0);
    expect(await hosts.unload()).toEqual([]);
  });
});

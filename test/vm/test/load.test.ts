import { kernelsUnderTest, type VirtualMachine } from "@isthmus/vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bootRelay, type RelayHosts, SOURCES } from "./relay-hosts.ts";

const CELLS = 100;
const PAGE_BYTES = 4096;
/** What the table of flows has at most for each of a splice's two legs: two pointers; and a slot in that of ids. */
const TABLES_BYTES = 2 * 2 * 8 + 576 / 64;

/** Addresses that no allocation expects. */
const STRANGERS = "198.18.0.0/15";
const FLOOD_PER_SECOND = 2000;
const FLOOD_SECONDS = 3;
const CLOSED_PORT = 19_999;

/** Numbers of enum ist_reason. */
const REPLACED = 4;
const SPLICE_LIMIT = 8;
const STRANGER = 15;

describe.each(kernelsUnderTest())("ist_splice under load, on $version", (kernel) => {
  let vm: VirtualMachine;
  let hosts: RelayHosts;

  beforeAll(async () => {
    ({ vm, hosts } = await bootRelay(kernel, { memoryMiB: 2048, tools: ["crowd", "flood"], countsObjects: true }));
    await hosts.istctl(
      `new 1 ${SOURCES} ${cells(CELLS)} timeout half 30000 timeout time-wait 1000 timeout closed 1000`,
    );
    // Where answers to strangers would go.
    await hosts.on("i", `ip route add ${STRANGERS} via 10.1.0.2`);
  });

  afterAll(async () => {
    await vm?.stop();
  });

  function cells(count: number): string {
    return Array.from({ length: count }, (_, n) => `cell ${n} passive ${20_000 + 2 * n} ${20_001 + 2 * n}`).join(" ");
  }

  /** Memory of the module's splices: what is in use, and the pages that it takes. */
  async function splices(): Promise<{ objects: number; bytes: number }> {
    const [objects, slabs, order] = (
      await vm.check(`
        cd /sys/kernel/slab/ist_splice && echo 1 >shrink
        cut -d' ' -f1 objects && cut -d' ' -f1 slabs && cat order
      `)
    )
      .trim()
      .split("\n")
      .map(Number) as [number, number, number];
    return { objects, bytes: slabs * (PAGE_BYTES << order) };
  }

  async function until(what: string, isSo: () => Promise<boolean>, ms: number): Promise<void> {
    const deadline = Date.now() + ms;
    while (!(await isSo())) {
      if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
      await vm.check("sleep 0.3");
    }
  }

  it("holds thousands of splices at once, each with its own bytes, and forgets them all", async () => {
    const pairs = kernel.isDebug ? 400 : 10_000;
    const output = await vm.check(
      `
      istctl="ip netns exec i ${vm.guestShare}/istctl"
      ${vm.guestShare}/crowd ${CELLS} ${pairs} 200 "
        $istctl stats
        echo established \\$($istctl splices 1 | grep -c ' state=3 ')
        cat /sys/kernel/slab/ist_splice/object_size
        echo 1 >/sys/kernel/slab/ist_splice/shrink
        cut -d' ' -f1 /sys/kernel/slab/ist_splice/objects
        cut -d' ' -f1 /sys/kernel/slab/ist_splice/slabs
        cat /sys/kernel/slab/ist_splice/order
      "`,
      240_000,
    );
    expect(output).toContain(`splices=${pairs} `);
    expect(output).toContain(`established ${pairs}\n`);
    const [size, objects, slabs, order] = output.split(`established ${pairs}\n`)[1]!.split("\n").map(Number) as [
      number,
      number,
      number,
      number,
    ];
    expect(objects).toBe(pairs);
    const each = (slabs * (PAGE_BYTES << order)) / pairs;
    console.log(
      `${kernel.version}: ${/established.* s/.exec(output)![0]}; a splice has ${size} bytes, ` +
        `takes ${each.toFixed(0)}, with the tables at most ${(each + TABLES_BYTES).toFixed(0)}`,
    );
    await until("no splice is left", async () => /splices=0 .* lingering=0 /.test(await hosts.istctl("stats")), 60_000);
    await until("no memory is left", async () => (await splices()).objects === 0, 30_000);
    expect(await hosts.checksumErrors()).toBe(0);
  });

  /** SYNs from `host` at a fixed rate. @returns how many */
  async function flood(host: "a" | "b", from: string, port: number): Promise<number> {
    const to = host === "a" ? "10.1.0.1" : "10.2.0.1";
    const words = `${from} ${to} ${port} ${FLOOD_PER_SECOND} ${FLOOD_SECONDS}`;
    return Number(/sent (\d+)/.exec(await hosts.on(host, `${vm.guestShare}/flood ${words}`))![1]);
  }

  /** What the relay sends to `net` while `body` runs. @returns packets */
  async function sentTo(net: string, body: () => Promise<void>): Promise<number> {
    const capture = vm.check(`
      ip netns exec i tcpdump -Z root -nni i0 -w /tmp/capture 'src host 10.1.0.1 and dst net ${net}' 2>/tmp/captured &
      while ! grep -q listening /tmp/captured; do sleep 0.1; done
      echo $! >/tmp/capturing
      wait $!
      sed -n 's/ packets captured//p' /tmp/captured
    `);
    await vm.check("while [ ! -s /tmp/capturing ]; do sleep 0.1; done");
    await body();
    await vm.check("sleep 0.5; kill -INT $(cat /tmp/capturing); rm /tmp/capturing");
    return Number((await capture).trim().split("\n").at(-1));
  }

  /** How often a reason ended something, and how many packets it cost. */
  async function counts(reason: number): Promise<[number, number]> {
    return ((await hosts.stats())[`r${reason}`] ?? "0/0").split("/").map(Number) as [number, number];
  }

  it("never answers strangers, which a closed port does, and counts each of their SYNs", async () => {
    const fromClosed = await sentTo(STRANGERS, async () => {
      await flood("a", STRANGERS, CLOSED_PORT);
    });
    expect(fromClosed).toBeGreaterThan(100);

    const [, before] = await counts(STRANGER);
    let sent = 0;
    const answers = await sentTo(STRANGERS, async () => {
      // Others come in meanwhile: by the next cell, and to a socket of the relay's own.
      [sent] = await Promise.all([flood("a", STRANGERS, 20_000), hosts.transfer([20_002, 20_003], { bytes: 20_000 })]);
    });
    const [, after] = await counts(STRANGER);
    expect(answers).toBe(0);
    expect(sent).toBeGreaterThan(FLOOD_PER_SECOND * FLOOD_SECONDS * 0.9);
    // The queue of a virtual wire may overflow under emulation.
    expect(after - before).toBeGreaterThan(sent * 0.9);
    expect((await hosts.stats()).halves).toBe("0");
  });

  it("keeps one leg of a flood from the address that it expects, and lets others in", async () => {
    const listening = vm.check(`
      ip netns exec i timeout 60 ${vm.guestShare}/istctl events 60 >/tmp/events & echo $! >/tmp/listener; wait; true`);
    const endpoint = vm.check("echo welcome | ip netns exec i timeout 60 busybox nc -l -p 443");
    const [before] = await counts(REPLACED);
    const [sent] = await Promise.all([
      flood("a", "10.1.0.2/32", 20_000),
      hosts.transfer([20_004, 20_005], { bytes: 20_000 }),
      vm.check("sleep 1; ip netns exec a busybox nc -w 30 10.1.0.1 443 </dev/null | grep -q welcome"),
    ]);
    const { halves, splices: live } = await hosts.stats();
    const [after] = await counts(REPLACED);
    await endpoint;
    await vm.check("kill $(cat /tmp/listener)");
    await listening;
    expect([halves, live]).toEqual(["1", "0"]);
    expect(after - before).toBeGreaterThan(sent * 0.9);
    expect(Number(await vm.check("grep -c reason=4 /tmp/events"))).toBeGreaterThan(100);
  });

  it("is held to an allocation's limit by a flood of both expected addresses", async () => {
    await hosts.istctl(`new 2 ${SOURCES} cell 0 passive 30000 30001 limit splices 20 timeout closed 1000`);
    // Their own systems know nothing of what was sent in their name, and would end each splice with a reset.
    for (const host of ["a", "b"] as const) {
      await hosts.on(
        host,
        `nft 'add table ip mute; add chain ip mute out { type filter hook output priority 0; }
        add rule ip mute out tcp flags & rst == rst drop'`,
      );
    }
    await Promise.all([flood("a", "10.1.0.2/32", 30_000), flood("b", "10.3.0.2/32", 30_001)]);
    const stats = await hosts.stats();
    expect(Number(stats.splices)).toBe(20);
    expect((await splices()).objects).toBe(20);
    expect((await counts(SPLICE_LIMIT))[0]).toBeGreaterThan(100);
    for (const host of ["a", "b"] as const) await hosts.on(host, "nft delete table ip mute");
    await hosts.istctl("del 2");
    await until("no memory is left", async () => (await splices()).objects === 0, 30_000);
  });

  it("leaves neither a complaint of the kernel behind nor memory", async () => {
    await hosts.istctl("del 1");
    expect(await hosts.unload()).toEqual([]);
  });
});

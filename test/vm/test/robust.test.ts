import { type KernelModule, kernelsUnderTest, type VirtualMachine } from "@isthmus/vm";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { trafficCommands } from "../../../kernel/splice/test/traffic.ts";
import { bootRelay, RelayHosts, SOURCES } from "./relay-hosts.ts";

const TOOLS = ["crowd", "flood"];
const STREAMS = 4;
const UNLOADS = 3;
const FANOUT_ROUNDS = 10;

/** Cells of TCP streams, of two UDP flows, and of a fan-out with two receivers. */
const CELLS = [
  ...Array.from({ length: STREAMS }, (_, n) => `cell ${n} passive ${20_000 + 2 * n} ${20_001 + 2 * n}`),
  "cell 50 passive 22000 22001",
  "cell 51 passive 22002 22003",
  "cell 52 fanout 22004 22005",
].join(" ");

/** To the ports of both, from `a` and from `b`. */
const DATAGRAMS = [
  [22_000, 22_002, 22_004],
  [22_001, 22_003, 22_005, 22_005],
] as const;

describe.each(kernelsUnderTest())("ist_splice while things go away, on $version", (kernel) => {
  /** Each request of the storms takes long on the debug kernel, and they must meet. */
  const stormSeconds = kernel.isDebug ? 60 : 8;
  /** Longer than whatever is done to the module takes while traffic goes on. */
  const trafficSeconds = kernel.isDebug ? 600 : 100;
  let module: KernelModule;
  let vm: VirtualMachine;
  let hosts: RelayHosts;

  beforeAll(async () => {
    ({ module, vm, hosts } = await bootRelay(kernel, { tools: TOOLS, countsObjects: true }));
  });

  afterAll(async () => {
    await vm?.stop();
  });

  beforeEach(async () => {
    await hosts.istctl(`new 1 ${SOURCES} ${CELLS}`);
  });

  /**
   * A script that sets going all that the module does: streams, datagrams, a fan-out, dumps and listeners; it goes on when
   * all of them do, and `quiet` in it ends them.
   */
  function traffic(): string {
    const bin = vm.guestShare;
    const mostly = `timeout ${trafficSeconds + 20}`;
    return `
      printf 'allocs\\nsplices\\nstats\\nsplices 1\\n' >/tmp/dumps
      (
        ${trafficCommands(hosts, { streams: STREAMS, datagrams: DATAGRAMS, seconds: trafficSeconds })}
        for n in 1 2; do ip netns exec i ${mostly} ${bin}/istctl events ${trafficSeconds} & done
        ip netns exec i ${mostly} ${bin}/istctl repeat ${trafficSeconds} /tmp/dumps &
        wait
      ) >/tmp/traffic 2>&1 & traffic=$!
      quiet() { busybox killall crowd leg istctl sleep; wait $traffic; true; }
      busy() { ip netns exec i ${bin}/istctl splices 1 | grep -c ' state=3 '; }
      tries=0
      while [ ! -e /tmp/streaming ] || [ $(busy) -lt ${STREAMS + 4} ]; do
        tries=$((tries + 1)); [ $tries -lt 200 ] || { cat /tmp/traffic; echo no traffic; exit 1; }
        sleep 0.2
      done
      sleep 1
    `;
  }

  /** All of the module's splices, cells and allocations are gone, once what waits for RCU has run. */
  async function expectNoMemory(): Promise<void> {
    await vm.check(`
      tries=0
      while echo 1 >/sys/kernel/slab/ist_splice/shrink && ! grep -q '^0' /sys/kernel/slab/ist_splice/objects; do
        tries=$((tries + 1)); [ $tries -lt 100 ] || { cat /sys/kernel/slab/ist_splice/objects; exit 1; }
        sleep 0.2
      done
    `);
  }

  it("is unloaded under full traffic, dumps and listeners, and loaded again", async () => {
    for (let n = 0; n < UNLOADS; n++) {
      if (n > 0) await hosts.istctl(`new 1 ${SOURCES} ${CELLS}`);
      // A dump holds the module for as long as it lasts.
      await vm.check(`
        ${traffic()}
        tries=0
        until /sbin/rmmod ist_splice 2>/tmp/rmmod; do
          tries=$((tries + 1)); [ $tries -lt 1000 ] || { cat /tmp/rmmod; exit 1; }
        done
        [ ! -e /sys/kernel/slab/ist_splice ] || exit 1
        quiet
        grep -q broken /tmp/traffic
      `);
      await vm.load(module);
    }
    await hosts.istctl(`new 1 ${SOURCES} ${CELLS}`);
    await hosts.transfer([20_000, 20_001], { bytes: 100_000 });
    await hosts.istctl("del 1");
    await expectNoMemory();
  });

  it("loses an interface with live splices, and the interface does not wait for them", async () => {
    await vm.check(`
      ${traffic()}
      # The kernel waits here until nobody holds the device any more.
      timeout 60 ip -n i link del i1
      quiet
    `);
    await hosts.istctl("del 1");
    await expectNoMemory();
    await hosts.remove();
    hosts = await RelayHosts.on(vm, { tools: TOOLS });
  });

  it("loses its namespace with live splices, dumps and listeners", async () => {
    await vm.check(`
      ${traffic()}
      kill -9 $(ip netns pids i)
      ip netns del i
      # The other end of the relay's wire goes when the namespace really ends.
      tries=0
      while ip -n a link show a0 >/dev/null 2>&1; do
        tries=$((tries + 1)); [ $tries -lt 100 ] || exit 1
        sleep 0.2
      done
      quiet
    `);
    await expectNoMemory();
    await hosts.remove();
    hosts = await RelayHosts.on(vm, { tools: TOOLS });
  });

  it("keeps streams untouched by storms of requests on both CPUs, whose legs meet meanwhile", async () => {
    const bin = vm.guestShare;
    // Two lists that make, change and remove the same allocations, each at its own pace.
    const storm = (shift: number): string =>
      [0, 1, 2]
        .map((n) => 60 + ((n + shift) % 3))
        .flatMap((id) => {
          const port = 30_000 + 4 * (id - 60);
          const cells = `cell 0 passive ${port} ${port + 1} cell 1 fanout ${port + 2} ${port + 3}`;
          return [
            `new ${id} ${SOURCES} ${cells} timeout closed 50`,
            `set ${id} ${SOURCES} timeout half 50 timeout syn-rcvd 50`,
            "splices",
            `set ${id} limit splices 7 limit rate 1000000`,
            `set ${id} remove 0 cell 2 pure ${port + 500} 0 0 ${port + 500}`,
            "allocs",
            `set ${id} cell 0 passive ${port} ${port + 1}`,
            "stats",
            `del ${id}`,
          ];
        })
        .join("\n");
    const output = await vm.check(
      `
      printf '%s\\n' '${storm(0)}' >/tmp/storm0
      printf '%s\\n' '${storm(1)}' >/tmp/storm1
      cat >/tmp/storm <<'END'
      for n in 0 1; do
        ip netns exec i taskset -c $n ${bin}/istctl repeat ${stormSeconds} /tmp/storm$n & storms="$storms $!"
      done
      ip netns exec i ${bin}/istctl events ${stormSeconds} >/tmp/events &
      for port in 30000 30004 30008; do
        ip netns exec a ${bin}/flood 10.1.0.2/32 10.1.0.1 $port 500 ${stormSeconds} >/dev/null &
        ip netns exec b ${bin}/flood 10.3.0.2/32 10.2.0.1 $((port + 1)) 500 ${stormSeconds} >/dev/null &
      done
      for pid in $storms; do wait $pid || exit 1; done
      wait
END
      ${bin}/crowd ${STREAMS} ${STREAMS} 0 "sh /tmp/storm"
      echo met $(grep -c '^splice' /tmp/events)
      `,
      stormSeconds * 20_000,
    );
    const rounds = [...output.matchAll(/done (\d+) refused (\d+)/g)].map(([, done, refused]) =>
      [done, refused].map(Number),
    );
    expect(rounds, output).toHaveLength(2);
    for (const [done, refused] of rounds) {
      expect(done).toBeGreaterThan(50);
      // Each finds some of its requests done by the other one.
      expect(refused).toBeGreaterThan(0);
      expect(refused).toBeLessThan(done!);
    }
    expect(Number(/met (\d+)/.exec(output)![1])).toBeGreaterThan(10);
    expect(output).toMatch(/^closed after/m);
    for (const id of [60, 61, 62]) await vm.run(`ip netns exec i ${bin}/istctl del ${id}`);
    await hosts.istctl("del 1");
    expect(await hosts.istctl("stats")).toMatch(/allocs=0 cells=0 halves=0 splices=0 udp=0 lingering=0 /);
    await expectNoMemory();
  });

  it("ends receivers of a fan-out while its source sends without a pause", async () => {
    const say = (host: "a" | "b", to: string, pause: string): string =>
      `ip netns exec ${host} timeout 110 bash -c 'exec 3<>/dev/udp/${to}; while :; do echo x >&3; ${pause} done' 2>/dev/null &`;
    // The source is mostly on its way from one receiver to the next: often at one that ends at this moment.
    await vm.check(`
      ist() { ip netns exec i ${vm.guestShare}/istctl $*; }
      ${say("a", "10.1.0.1/23000", "")}
      for n in 1 2 3; do
        ${say("b", "10.2.0.1/23001", "sleep 0.05;")}
      done
      for round in $(seq ${FANOUT_ROUNDS}); do
        ist new 2 ${SOURCES} cell 0 fanout 23000 23001 || exit 1
        tries=0
        while [ $(ist splices 2 | grep -c ' state=3 ') -lt 3 ]; do
          tries=$((tries + 1)); [ $tries -lt 200 ] || { ist splices 2; echo no receivers; exit 1; }
          sleep 0.05
        done
        ist del 2 || exit 1
      done
      busybox killall bash sleep
      wait
    `);
    await hosts.istctl("del 1");
    await expectNoMemory();
  });

  it("leaves neither a complaint of the kernel behind nor memory", async () => {
    await hosts.istctl("del 1");
    expect(await hosts.unload()).toEqual([]);
  });
});

import { join, resolve } from "node:path";
import { expect, it } from "vitest";
import { installedKernels, VirtualMachine } from "../src/index.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
const PROGRAMS = join(ROOT, "packages/native/build/splice.bpf.o");
const LEG = join(ROOT, "kernel/splice/test/leg.c");
const RELAY = join(ROOT, "packages/datapath/test/child/ebpf-relay.ts");
/** Node starts slowly in a machine, and from sources more so. */
const START_SECONDS = 240;
const TEST_MS = 900_000;
/** How long one leg waits for the other: for SYNs to come again and again. */
const HOLD_MS = process.env.ISTHMUS_FULL === "1" ? 20_000 : 6000;

it.each(installedKernels())("the verifier of $version takes the BPF programs of the splice", async (kernel) => {
  await using machine = await VirtualMachine.boot({ kernel });
  await machine.check("mkdir -p /tmp/bpf && mount -t bpf bpf /tmp/bpf");
  const { status, output } = await machine.run(`bpftool prog loadall ${PROGRAMS} /tmp/bpf`);
  expect({ status, output }).toEqual({ status: 0, output: "" });
  expect(await machine.check("ls /tmp/bpf")).toContain("ist_splice");
  expect(machine.complaints()).toEqual([]);
});

/** The relay `i` between `a` and `b`; to `a` by a VLAN, to `b` by a plain cable. */
const HOSTS = `
set -e
modprobe -a veth 8021q sch_netem
for host in a i b; do ip netns add $host; ip -n $host link set lo up; done
ip link add a0 netns a type veth peer name i0 netns i
ip link add b0 netns b type veth peer name i1 netns i
for at in a/a0 i/i0 i/i1 b/b0; do ip -n \${at%/*} link set \${at#*/} up; done
for at in a/a0/10.1.0.2 i/i0/10.1.0.1; do
  IFS=/ read -r host device address <<END
$at
END
  ip -n $host link add link $device name vlan5 type vlan id 5
  ip -n $host addr add $address/24 dev vlan5
  ip -n $host link set vlan5 up
done
ip -n i addr add 10.2.0.1/24 dev i1
ip -n b addr add 10.2.0.2/24 dev b0
`;

it("the BPF programs splice on a VLAN's interface, and where packets are lost, doubled and overtaken", {
  timeout: TEST_MS,
}, async () => {
  await using machine = await VirtualMachine.boot({ kernel: installedKernels()[0]! });
  machine.compile(LEG);
  await machine.check(HOSTS);
  const open = { call: "open" };
  const limits = { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: 60_000 };
  const spec = {
    allocation: "00000000000000a1",
    cells: [{ cell: 0, ports: [20_000, 20_001] }],
    sources: [["10.1.0.2"], ["10.2.0.2"]],
    limits,
  };
  await machine.check(
    `cd ${ROOT} && export HOME=/tmp PATH=$PWD/node_modules/.bin:$PATH
     { echo '${JSON.stringify(open)}'; echo '${JSON.stringify({ call: "allocate", spec })}'; sleep ${TEST_MS / 1000}; } |
       ip netns exec i node --conditions=source ${RELAY} >/tmp/relay 2>&1 &
     for n in $(seq ${START_SECONDS}); do [ "$(wc -l </tmp/relay)" -ge 2 ] && break; sleep 1; done; cat /tmp/relay`,
    (START_SECONDS + 60) * 1000,
  );
  expect((await machine.check("cat /tmp/relay")).trim().split("\n")).toEqual([
    '{"answer":null}',
    '{"answer":[{"cell":0,"ports":[20000,20001]}]}',
  ]);
  /** Both send so much, and check every byte; `b` begins later. */
  const transfer = (bytes: number, laterMs: number) =>
    machine.check(
      `leg() { ip netns exec $1 timeout 240 ${machine.guestShare}/leg tcp $2 0 $3 $4 ${bytes} $5 ${bytes} $6; }
       leg a 10.1.0.2 10.1.0.1 20000 11 22 & a=$!
       sleep ${laterMs / 1000}
       leg b 10.2.0.2 10.2.0.1 20001 22 11 && wait $a`,
      300_000,
    );
  await transfer(2_000_000, 0);
  await machine.check(
    `for at in a/vlan5 i/i1 i/vlan5 b/b0; do
       ip netns exec \${at%/*} tc qdisc replace dev \${at#*/} root netem delay 5ms 3ms loss 5% duplicate 3% reorder 20%; done`,
  );
  await transfer(100_000, 0);
  await transfer(10_000, HOLD_MS);
  const errors = await machine.check(
    "for host in a b; do ip netns exec $host nstat -asz TcpInCsumErrors; done | awk '/Csum/ { sum += $2 } END { print sum }'",
  );
  expect(errors).toBe("0\n");
  expect(machine.complaints()).toEqual([]);
});

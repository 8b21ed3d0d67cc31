import { buildModule, installedKernels, type Kernel, type KernelModule, VirtualMachine } from "@isthmus/vm";
import { type Figure, figure, type Goal } from "../figure.ts";
import { buildRtpengineModule } from "../peers/rtpengine.ts";
import type { DatagramRelay, Relay } from "../relay/relays.ts";
import * as ways from "../relay/relays.ts";
import { type Flow, MOST_BESIDE, RelaySite } from "../relay/site.ts";
import { interleave } from "../rounds.ts";
import { pairedRatios } from "../statistics.ts";
import { besideForwarding } from "./beside-forwarding.ts";
import type { Measure } from "./measure.ts";

const ROUNDS = 7;
const MEMORY_MIB = 2048;
const CONNECTIONS = [1, 50];
const TIME = { warmMs: 1500, ms: 1000 };
const DATAGRAM_BYTES = 64;
const ROUND_TRIPS = 300;
const SET_UPS = 100;
const HELD_SPLICES = 2000;
const HOLD_MS = 600_000;

const { direct, none, forward, nat, flowtable, passive, pure, ebpfPassive, ebpfPure, socat, userspace, haproxy } = ways;
const { rtpengine, rtpengineFax, rtpengineAlone } = ways;
const RELAYS = [direct, none, forward, nat, flowtable, passive, pure, ebpfPassive, ebpfPure, socat, userspace, haproxy];
/** Those that carry datagrams. */
const CARRIERS: readonly DatagramRelay[] = [
  ...RELAYS.filter(({ carriesUdp }) => carriesUdp),
  rtpengine,
  rtpengineFax,
  rtpengineAlone,
];
/** Whose datagrams are compared with forwarding's. */
const COMPARED = [nat, flowtable, passive, pure, ebpfPassive, ebpfPure, rtpengine, rtpengineFax, userspace];

/** What a splice shall reach beside others, with segmentation in devices and without. */
const GOALS = {
  on: { forward: 1.02, nat: 1.05, socat: 1.8 },
  off: { forward: 0.94, nat: 1.1, socat: 1.4 },
} as const;

const METHOD = `Hosts, two NATs and the relay are network namespaces of one virtual machine with one CPU whose clock counts \
instructions (2 ns each), so that what else this host does changes nothing. A path costs what all five hosts on it cost: the \
relay's own part is what is above "both NATs, no relay".`;

const TCP_METHOD = `${TIME.ms} ms after ${TIME.warmMs} ms; what the sender sent and what the receiver received averaged.`;

export const relayLarge: Measure = {
  name: "relay-large",
  title: "The relay's TCP, by instructions: large packets",
  method: `${METHOD} Devices segment: packets of up to 64 KiB pass the relay, and few of its instructions are for a byte. \
${TCP_METHOD}`,
  run: (say, _draw, pace) => inGuest({ say }, (site) => goodputs(site, "on", say, pace(ROUNDS))),
};

export const relaySmall: Measure = {
  name: "relay-small",
  title: "The relay's TCP, by instructions: packets of 1,500 bytes",
  method: `${METHOD} All offloads are off. ${TCP_METHOD}`,
  run: (say, _draw, pace) => inGuest({ say }, (site) => goodputs(site, "off", say, pace(ROUNDS))),
};

export const relayPackets: Measure = {
  name: "relay-packets",
  title: "The relay's packets and set-ups, by instructions",
  method: `${METHOD} Datagrams have ${DATAGRAM_BYTES} bytes of payload; as many as arrive without loss are sent. rtpengine has one \
call: of phones, where the first 12 of these bytes are RTP's header, or of fax machines (UDPTL), where they are what they are \
elsewhere. Its module counts what it relays; that more than ${100 * MOST_BESIDE} % comes to its program is an error. Set-up is \
from the second SYN (or the only one) until both ends are connected.`,
  run: (say, _draw, pace) => {
    const rounds = pace(ROUNDS);
    const relays = [...new Set([...RELAYS, ...CARRIERS])];
    return inGuest({ say, relays, peers: [buildRtpengineModule] }, async (site) => [
      ...(await roundTrips(site, say, rounds)),
      ...(await packets(site, say, rounds)),
      ...(await setUps(site, say, rounds)),
      await memory(site),
    ]);
  },
};

interface Guest {
  say: (progress: string) => void;
  /** By default those for TCP. */
  relays?: readonly DatagramRelay[];
  /** What builds others' modules. */
  peers?: readonly ((kernel: Kernel) => KernelModule)[];
}

async function inGuest(
  { say, relays = RELAYS, peers = [] }: Guest,
  measure: (site: RelaySite) => Promise<Figure[]>,
): Promise<Figure[]> {
  const kernel = installedKernels()[0];
  if (!kernel) throw new Error("no kernel with image and headers (linux-image-amd64, linux-headers-amd64)");
  await using vm = await VirtualMachine.boot({
    kernel,
    countInstructions: true,
    memoryMiB: MEMORY_MIB,
    // The module's slab is seen as its own.
    kernelArguments: ["slab_nomerge"],
  });
  await vm.load(buildModule("splice", kernel));
  for (const build of peers) await vm.load(build(kernel));
  say(`Linux ${kernel.version} is up`);
  const site = await RelaySite.inside(vm, relays);
  const figures = await measure(site);
  const complaints = vm.complaints();
  if (complaints.length > 0) throw new Error(`the kernel complained: ${complaints.join("\n")}`);
  return figures;
}

async function goodputs(
  site: RelaySite,
  offloads: "on" | "off",
  say: (progress: string) => void,
  count: number,
): Promise<Figure[]> {
  await site.setOffloads(offloads === "on");
  const figures: Figure[] = [];
  for (const connections of CONNECTIONS) figures.push(...(await goodput(site, offloads, connections, say, count)));
  return figures;
}

/** Sender's and receiver's rate, averaged (T 5.4). @returns Mbit/s */
export function megabits({ sent, received, seconds }: Flow): number {
  return ((sent + received) / 2) * (8 / seconds / 1e6);
}

async function goodput(
  site: RelaySite,
  offloads: "on" | "off",
  connections: number,
  say: (progress: string) => void,
  count: number,
): Promise<Figure[]> {
  const label = `${connections} ${connections === 1 ? "connection" : "connections"}`;
  const rounds = await interleave(
    RELAYS,
    async (way, round) => {
      const rate = megabits(await site.tcp(way, connections, TIME));
      say(`${label}, round ${round}: ${way.title} ${rate.toFixed(0)} Mbit/s`);
      return rate;
    },
    count,
  );
  const of = (way: Relay): number[] => rounds.get(way)!;
  const ratio = (a: Relay, b: Relay, goal?: Goal): Figure =>
    figure(`${label}: ${a.title} / ${b.title}`, "x", pairedRatios(of(a), of(b)), goal);
  const goals = GOALS[offloads];
  return [
    ...RELAYS.map((way) => figure(`${label}: ${way.title}`, "Mbit/s", of(way))),
    ratio(passive, forward, { atLeast: goals.forward }),
    ratio(passive, nat, { atLeast: goals.nat }),
    ratio(passive, socat, { atLeast: goals.socat }),
    ratio(pure, passive, { atLeast: 1 }),
    ratio(ebpfPassive, forward),
    ratio(ebpfPassive, nat),
    ratio(ebpfPassive, passive),
    ratio(ebpfPure, ebpfPassive),
    ratio(flowtable, nat),
    ratio(userspace, haproxy, offloads === "on" ? { atLeast: 1.3 } : undefined),
  ];
}

async function roundTrips(site: RelaySite, say: (progress: string) => void, count: number): Promise<Figure[]> {
  const rounds = await interleave(
    CARRIERS,
    async (way, round) => {
      const { median } = await site.roundTrips(way, ROUND_TRIPS, DATAGRAM_BYTES);
      say(`round trips, round ${round}: ${way.title} ${median.toFixed(1)} us`);
      return median;
    },
    count,
  );
  return besideForwarding("UDP round trip", "us", rounds, { compared: COMPARED });
}

async function packets(site: RelaySite, say: (progress: string) => void, count: number): Promise<Figure[]> {
  const rounds = await interleave(
    CARRIERS,
    async (way, round) => {
      const { received, seconds } = await site.packets(way, DATAGRAM_BYTES, TIME);
      const rate = received / seconds;
      say(`datagrams, round ${round}: ${way.title} ${rate.toFixed(0)} a second`);
      return rate;
    },
    count,
  );
  /** Of one datagram on the whole path; the clock counts 2 ns for each. */
  const instructions = (way: DatagramRelay): number[] => rounds.get(way)!.map((rate) => 1e9 / rate / 2);
  const own = (way: DatagramRelay): number[] =>
    instructions(way).map((count, round) => count - instructions(none)[round]!);
  return [
    ...besideForwarding("datagrams per second", "", rounds, { compared: COMPARED }),
    ...CARRIERS.filter((way) => way !== direct && way !== none).map((way) =>
      figure(`instructions for a datagram at the relay: ${way.title}`, "", own(way)),
    ),
  ];
}

async function setUps(site: RelaySite, say: (progress: string) => void, count: number): Promise<Figure[]> {
  const rounds = await interleave(
    RELAYS,
    async (way, round) => {
      const times = await site.setUps(way, SET_UPS);
      say(`set-ups, round ${round}: ${way.title} ${times.median.toFixed(0)} us`);
      return times;
    },
    count,
  );
  return [
    ...RELAYS.map((way) =>
      figure(
        `set-up: ${way.title}`,
        "us",
        rounds.get(way)!.map(({ median }) => median),
      ),
    ),
    ...[forward, nat, flowtable, passive, pure, ebpfPassive, ebpfPure, socat, userspace, haproxy].map((way) =>
      figure(
        `set-up, added by the relay: ${way.title}`,
        "us",
        rounds.get(way)!.map(({ median }, round) => median - rounds.get(none)![round]!.median),
      ),
    ),
  ];
}

/** What the slab allocator gives for one splice, and its share of the tables. */
async function memory(site: RelaySite): Promise<Figure> {
  const output = await site.hold(passive, HELD_SPLICES, "cat /proc/slabinfo", HOLD_MS);
  const line = output.split("\n").find((one) => one.startsWith("ist_splice"));
  if (!line) throw new Error(`no slab of the module:\n${output}`);
  const [, , objects, , perSlab, pages] = line.split(/\s+/).map(Number);
  if (objects! < HELD_SPLICES) throw new Error(`${objects} splices in the slab, ${HELD_SPLICES} are held`);
  return figure("memory of an established splice in the kernel", "KB", [(pages! * 4096) / perSlab! / 1000], {
    atMost: 0.35,
  });
}

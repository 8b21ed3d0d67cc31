import { availableParallelism } from "node:os";
import { requireLab } from "@isthmus/lab";
import { type Figure, figure, type Goal } from "../figure.ts";
import type { Plot, Series } from "../plot.ts";
import type { Relay } from "../relay/relays.ts";
import * as ways from "../relay/relays.ts";
import { HOST } from "../relay/shell.ts";
import { type Flow, RelaySite } from "../relay/site.ts";
import { interleave } from "../rounds.ts";
import { median, medianInterval, pairedRatios } from "../statistics.ts";
import { besideForwarding } from "./beside-forwarding.ts";
import type { Measure, Pace } from "./measure.ts";

const CONNECTIONS = [1, 10, 50, 100];
/** Of all relays; the others are measured with any number. */
const SOME_CONNECTIONS = [1, 50];
const TIME = { warmMs: 200, ms: 400 };
const DATAGRAM_BYTES = 64;
const ROUND_TRIPS = 5000;
const SET_UPS = 1000;
const BURST = 4000;
const HELD_SPLICES = 4000;
const HOLD_MS = 60_000;
/** Each is two entries of the table in which every packet is looked for. */
const CROWD = 500_000;

const {
  direct,
  forward,
  nat,
  ebpfPassive,
  ebpfApart,
  ebpfCrowded,
  ebpfPure,
  userspace,
  haproxy,
  nginx,
  socat,
  coturn,
  ssh,
} = ways;
/** Those of the kernel, and the two in user space that are compared. */
const CLOSE = [direct, forward, nat, ebpfPassive, ebpfPure, userspace, haproxy];
const RELAYS = [...CLOSE, nginx, socat, coturn, ssh];
/** Of those, the ones where an end that is connected knows that the other is. */
const CONNECTORS = [direct, forward, nat, ebpfPassive, ebpfApart, haproxy, nginx];

interface Progress {
  say: (progress: string) => void;
  draw: (plot: Plot) => void;
  rounds: number;
}

/** More than elsewhere: these are times, and none of them takes long. */
function roundsOf(pace: Pace): number {
  return pace(15, 7);
}

const METHOD = `On the running kernel, without any NAT but the one that is measured: a - relay - b in namespaces of this \
host. Sender, relay and receiver share CPU ${availableParallelism() - 1} at nice -15, so that speed is the inverse of work.`;
const CPU = `CPU-seconds are the run time (schedstat) of all processes in the namespaces of a, b and the relay; what the \
kernel does with a packet is done in the time of whoever sends it.`;
const TURN = `coturn relays by TURN: TCP as in RFC 6062, datagrams in channels. ssh -R is one sshd on the relay and a client \
on b, which encrypts one of the two legs.`;

export const hostTcp: Measure = {
  name: "host-tcp",
  title: "The relay's TCP on the running kernel",
  method: `${METHOD} Packets of up to 64 KiB (GSO). What the receiver received in ${TIME.ms} ms after ${TIME.warmMs} ms. \
${CPU} ${TURN}`,
  run: async (say, draw, pace) => {
    await using site = await siteOf([...RELAYS, ebpfCrowded]);
    const progress = { say, draw, rounds: roundsOf(pace) };
    return [
      ...(await goodputs(site, RELAYS, progress, {
        name: "host-tcp",
        what: "TCP with large packets",
        connections: CONNECTIONS,
        goals: { forward: 0.97, nat: 1.1, cost: 0.85, userspace: 1.3 },
      })),
      await crowded(site, progress),
    ];
  },
};

export const hostSmall: Measure = {
  name: "host-small",
  title: "The relay's TCP on the running kernel: packets of 1,500 bytes",
  method: `${METHOD} All offloads of all cables are off. What the receiver received in ${TIME.ms} ms after ${TIME.warmMs} ms. \
${CPU}`,
  run: async (say, draw, pace) => {
    await using site = await siteOf(CLOSE);
    await site.setOffloads(false);
    return await goodputs(
      site,
      CLOSE,
      { say, draw, rounds: roundsOf(pace) },
      {
        name: "host-small",
        what: "TCP with packets of 1,500 bytes",
        connections: SOME_CONNECTIONS,
        goals: { cost: 0.65 },
      },
    );
  },
};

export const hostUdp: Measure = {
  name: "host-udp",
  title: "The relay's datagrams on the running kernel",
  method: `${METHOD} Datagrams have ${DATAGRAM_BYTES} bytes of payload. Round trips one by one, the median of ${ROUND_TRIPS}; \
then as many as arrive without loss, in ${TIME.ms} ms after ${TIME.warmMs} ms.`,
  run: async (say, _draw, pace) => {
    const carriers = RELAYS.filter((way) => way.carriesUdp);
    await using site = await siteOf(carriers);
    const roundTrips = await interleave(
      carriers,
      async (way, round) => {
        const { median: time } = await site.roundTrips(way, ROUND_TRIPS, DATAGRAM_BYTES);
        say(`round trips, round ${round}: ${way.title} ${time.toFixed(1)} us`);
        return time;
      },
      roundsOf(pace),
    );
    const packets = await interleave(
      carriers,
      async (way, round) => {
        const { received, seconds } = await site.packets(way, DATAGRAM_BYTES, TIME);
        say(`datagrams, round ${round}: ${way.title} ${(received / seconds).toFixed(0)} a second`);
        return received / seconds;
      },
      roundsOf(pace),
    );
    return [
      ...besideForwarding("UDP round trip", "us", roundTrips, { goal: { atMost: 0.87 } }),
      ...besideForwarding("datagrams per second", "", packets, { goal: { atLeast: 1.02 } }),
      ...[direct, forward, nat, ebpfPassive].map((way) =>
        figure(
          `a datagram on the whole path: ${way.title}`,
          "ns",
          packets.get(way)!.map((rate) => 1e9 / rate),
        ),
      ),
      await inPrograms(site),
    ];
  },
};

export const hostSetup: Measure = {
  name: "host-setup",
  title: "Set-up and memory of a splice on the running kernel",
  method: `${METHOD} Set-up is from connect() of the second end (or the only one) until both are connected, the median of \
${SET_UPS} one after the other. A burst is ${BURST} connections, 100 at a time, both ends' work included. The user-space IST \
answers each end by itself: an end's "connected" says nothing of the other there. Memory is what the maps \
take by the kernel's own account, with ${HELD_SPLICES} splices and without.`,
  run: async (say, _draw, pace) => {
    await using site = await siteOf(CONNECTORS);
    // Before all others, whose splices are remembered for a while.
    const held = await memory(site);
    const setUps = await interleave(
      CONNECTORS,
      async (way, round) => {
        const { median: time } = await site.setUps(way, SET_UPS);
        say(`set-ups, round ${round}: ${way.title} ${time.toFixed(1)} us`);
        return time;
      },
      roundsOf(pace),
    );
    const bursts = await interleave(
      CONNECTORS,
      async (way, round) => {
        const { perSecond } = await site.burst(way, BURST);
        say(`bursts, round ${round}: ${way.title} ${perSecond.toFixed(0)} a second`);
        return perSecond;
      },
      roundsOf(pace),
    );
    return [
      ...CONNECTORS.map((way) =>
        figure(`set-up: ${way.title}`, "us", setUps.get(way)!, way === ebpfPassive ? { atMost: 15 } : undefined),
      ),
      ...CONNECTORS.map((way) =>
        figure(
          `connections set up per second: ${way.title}`,
          "",
          bursts.get(way)!,
          way === ebpfPassive ? { atLeast: 30_000 } : undefined,
        ),
      ),
      held,
    ];
  },
};

function siteOf(relays: readonly Relay[]): Promise<RelaySite> {
  requireLab();
  return RelaySite.here(relays);
}

interface Sample {
  /** Gbit/s. */
  rate: number;
  /** CPU-seconds for 10^9 bytes. */
  cost: number;
}

interface Goals {
  /** Of the splice's goodput as a ratio to these. */
  forward?: number;
  nat?: number;
  /** Of its CPU-seconds for a byte as a ratio to NAT's. */
  cost?: number;
  /** Of the user-space path's goodput as a ratio to HAProxy's. */
  userspace?: number;
}

async function goodputs(
  site: RelaySite,
  relays: readonly Relay[],
  { say, draw, rounds }: Progress,
  wanted: { name: string; what: string; connections: readonly number[]; goals: Goals },
): Promise<Figure[]> {
  const points = new Map<number, Map<Relay, Sample[]>>();
  for (const connections of wanted.connections) {
    points.set(
      connections,
      await interleave(
        relays.filter((way) => CLOSE.includes(way) || SOME_CONNECTIONS.includes(connections)),
        async (way, round) => {
          const flow = await site.tcp(way, connections, TIME);
          const rate = rateOf(flow);
          say(`${connections} connections, round ${round}: ${way.title} ${rate.toFixed(2)} Gbit/s`);
          return { rate, cost: flow.cpu / (flow.received / 1e9) };
        },
        rounds,
      ),
    );
  }
  draw({
    kind: "lines",
    name: wanted.name,
    title: `${wanted.what} on the running kernel, ratio to plain forwarding`,
    x: "connections",
    y: "goodput, ratio to plain forwarding",
    series: relays.map((way) => series(way, points)),
  });
  return [...points].flatMap(([connections, samples]) => figuresOf(connections, samples, wanted.goals));
}

function series(way: Relay, points: ReadonlyMap<number, ReadonlyMap<Relay, Sample[]>>): Series {
  return {
    name: way.title,
    points: Array.from(points).flatMap(([x, samples]) => {
      if (!samples.has(way)) return [];
      const ratios = pairedRatios(ratesOf(samples.get(way)!), ratesOf(samples.get(forward)!));
      return [{ x, y: median(ratios), ...(ratios.length > 1 && medianInterval(ratios)) }];
    }),
  };
}

function ratesOf(samples: readonly Sample[]): number[] {
  return samples.map(({ rate }) => rate);
}

function costsOf(samples: readonly Sample[]): number[] {
  return samples.map(({ cost }) => cost);
}

function figuresOf(connections: number, samples: ReadonlyMap<Relay, Sample[]>, goals: Goals): Figure[] {
  const label = connections === 1 ? "1 connection" : `${connections} connections`;
  const rates = (way: Relay): number[] => ratesOf(samples.get(way)!);
  const costs = (way: Relay): number[] => costsOf(samples.get(way)!);
  const faster = (a: Relay, b: Relay, least?: number): Figure =>
    figure(`${label}: ${a.title} / ${b.title}`, "x", pairedRatios(rates(a), rates(b)), atLeast(least));
  const dearer = (a: Relay, b: Relay, most?: number): Figure =>
    figure(
      `${label}: ${a.title} / ${b.title}, CPU for a byte`,
      "x",
      pairedRatios(costs(a), costs(b)),
      most === undefined ? undefined : { atMost: most },
    );
  return [
    ...[...samples.keys()].flatMap((way) => [
      figure(`${label}: ${way.title}`, "Gbit/s", rates(way)),
      figure(`${label}: ${way.title}`, "CPU-s per GB", costs(way)),
    ]),
    ...[...samples.keys()]
      .filter((way) => way !== forward)
      .map((way) => faster(way, forward, way === ebpfPassive ? goals.forward : undefined)),
    faster(ebpfPassive, nat, goals.nat),
    dearer(ebpfPassive, nat, goals.cost),
    dearer(ebpfPure, ebpfPassive, 1),
    faster(userspace, haproxy, goals.userspace),
    dearer(userspace, haproxy),
  ];
}

function atLeast(least: number | undefined): Goal | undefined {
  return least === undefined ? undefined : { atLeast: least };
}

/** With a table that is nearly as full as it can be, beside one that has nobody else's splices. */
async function crowded(site: RelaySite, { say, rounds }: Progress): Promise<Figure> {
  const entries = await site.crowd(ebpfCrowded, CROWD);
  if (entries < 2 * CROWD) throw new Error(`${entries} entries in the table`);
  const connections = Math.max(...CONNECTIONS);
  const results = await interleave(
    [ebpfPassive, ebpfCrowded],
    async (way, round) => {
      const rate = rateOf(await site.tcp(way, connections, TIME));
      say(`${connections} connections, round ${round}: ${way.title} ${rate.toFixed(2)} Gbit/s`);
      return rate;
    },
    rounds,
  );
  const ratios = pairedRatios(results.get(ebpfCrowded)!, results.get(ebpfPassive)!);
  return figure(`${connections} connections: ${ebpfCrowded.title} / ${ebpfPassive.title}`, "x", ratios, {
    atLeast: 0.95,
  });
}

/** What arrived, in Gbit/s. */
function rateOf({ received, seconds }: Flow): number {
  return (received * 8) / seconds / 1e9;
}

/** What the IST of a relay has open, as the kernel tells of it. */
function descriptorsAt(site: RelaySite): string {
  return `
    for process in $(ip netns pids ${site.place(ebpfPassive).namespace}); do
      cat /proc/$process/fdinfo/* 2>/dev/null || true
    done`;
}

/** What the programs take of a datagram's time, by the kernel's clock around each run. */
async function inPrograms(site: RelaySite): Promise<Figure> {
  const spent = async (): Promise<number> => programNanoseconds(await HOST.check(descriptorsAt(site)));
  await HOST.check("sysctl -qw kernel.bpf_stats_enabled=1");
  try {
    const before = await spent();
    const { sent } = await site.rate(ebpfPassive, DATAGRAM_BYTES, 0, TIME.ms);
    return figure(`of it in BPF programs: ${ebpfPassive.title}`, "ns", [((await spent()) - before) / sent]);
  } finally {
    await HOST.check("sysctl -qw kernel.bpf_stats_enabled=0");
  }
}

/** Maps are seen in what the IST has open; each says what it takes. */
async function memory(site: RelaySite): Promise<Figure> {
  const before = mapBytes(await site.hold(ebpfPassive, 1, descriptorsAt(site), HOLD_MS));
  const after = mapBytes(await site.hold(ebpfPassive, 1 + HELD_SPLICES, descriptorsAt(site), HOLD_MS));
  return figure("memory of an established splice in the maps", "KB", [(after - before) / HELD_SPLICES / 1000], {
    atMost: 0.35,
  });
}

/** @param descriptors those of a process, as /proc/PID/fdinfo has them */
export function mapBytes(descriptors: string): number {
  return sumOfEach(descriptors, /^memlock:\s*(?<value>\d+)\nmap_id:\s*(?<id>\d+)$/gm);
}

/** See {@link mapBytes}. */
export function programNanoseconds(descriptors: string): number {
  return sumOfEach(descriptors, /^prog_id:\s*(?<id>\d+)\nrun_time_ns:\s*(?<value>\d+)$/gm);
}

/** One thing may be open several times. */
function sumOfEach(text: string, pattern: RegExp): number {
  const values = new Map<string, number>();
  for (const { groups } of text.matchAll(pattern)) values.set(groups!.id!, Number(groups!.value));
  return [...values.values()].reduce((sum, value) => sum + value, 0);
}

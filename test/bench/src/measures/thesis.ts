import { buildModule, installedKernels, type Kernel, VirtualMachine } from "@isthmus/vm";
import { type Figure, figure } from "../figure.ts";
import type { LinePlot, Plot, Series } from "../plot.ts";
import { direct, ebpfPassive, forward, nat, passive, type Relay, userspace } from "../relay/relays.ts";
import { HOST } from "../relay/shell.ts";
import { networkCards, RelaySite, SMALL_RELAY } from "../relay/site.ts";
import { interleave } from "../rounds.ts";
import { median, medianInterval, pairedRatios } from "../statistics.ts";
import type { Measure, Pace } from "./measure.ts";
import { megabits } from "./relay.ts";

/** The five phases of T 5.4, and BPF programs in the place of the module. */
const PHASES = [direct, forward, nat, userspace, passive, ebpfPassive];
const ROUNDS = 5;
/** Of loss, of which there are many points. */
const LOSS_ROUNDS = 3;

const CONNECTIONS = [1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
const ROUND_TRIPS = 300;
const ROUND_TRIP_BYTES = 64;
/** Shares of the line's rate. */
const RATES = [0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1];
const DATAGRAM_BYTES = [1000, 6000];
const SIZES = [64, 128, 256, 512, 1024, 2048, 4096, 8192];
const LOSS_MS = 200;

/** The line, against what plain forwarding through the small relay carries: its ends, not the line, are the limit. */
const LINE_SHARE = 1.25;
const LINE_BURST_BYTES = 20_000;
const LINE_QUEUE_BYTES = 200_000;

interface Context {
  site: RelaySite;
  /** Which machine, for names of figures and plots. */
  machine: "counted" | "small";
  say: (progress: string) => void;
  draw: (plot: Plot) => void;
  pace: Pace;
}

const MACHINES = {
  counted: "all hosts in one machine that counts instructions",
  small: "the relay alone in a machine with 1 CPU and 256 MB",
};

const PHASES_METHOD = `The thesis' five phases: direct, Linux forwarding, NAT, IST in application layer, IST in kernel \
(Passive Splice); and the IST in BPF programs, which the thesis had not. Packets have 1,500 bytes (no offloads), and before each \
host is a NAT, but for direct. TCP rates are those of sender and receiver, averaged. Points are medians of ${ROUNDS} interleaved \
rounds (of loss, ${LOSS_ROUNDS}) with their 95 % intervals.`;

export const thesisCounted: Measure = {
  name: "thesis-counted",
  title: "The thesis' evaluation (T 5.4) by instructions: figures 5.5 to 5.7",
  method: `${PHASES_METHOD} All hosts are in one virtual machine with one CPU whose clock counts instructions (2 ns each).`,
  run: (...report) => counted(theKernel(), ...report),
};

export const thesisLoss: Measure = {
  name: "thesis-loss",
  title: "The thesis' evaluation (T 5.4) by instructions: figures 5.8 to 5.10",
  method: `${PHASES_METHOD} All hosts are in one virtual machine with one CPU whose clock counts instructions (2 ns each). Each \
relay is a thread with a queue of 256 packets, which shares the CPU with sender and receiver: what does not fit is lost. The \
full rate is that of a sender that never waits, and rates are shares of what it sends to b directly.`,
  run: (...report) => countedLoss(theKernel(), ...report),
};

export const thesisSmall: Measure = {
  name: "thesis-small",
  title: "The thesis' evaluation (T 5.4) with a small relay: figures 5.5 to 5.10",
  method: `${PHASES_METHOD} The relay is alone in a virtual machine like the thesis' device (1 CPU, 256 MB, emulated), hosts \
and NATs are outside, on this host's clock and beside its other work. The line of the senders carries ${LINE_SHARE} times what \
plain forwarding does there: the relay is the bottleneck, not the line. Rates are shares of the line's.`,
  run: (...report) => small(theKernel(), ...report),
};

function theKernel(): Kernel {
  const [kernel] = installedKernels();
  if (!kernel) throw new Error("no kernel with image and headers (linux-image-amd64, linux-headers-amd64)");
  return kernel;
}

async function counted(kernel: Kernel, ...report: Parameters<Measure["run"]>): Promise<Figure[]> {
  await using vm = await VirtualMachine.boot({ kernel, countInstructions: true, memoryMiB: 2048 });
  await vm.load(buildModule("splice", kernel));
  const site = await RelaySite.inside(vm, PHASES);
  await site.setOffloads(false);
  const [say, draw, pace] = report;
  const context: Context = { site, machine: "counted", say, draw, pace };
  return [...(await roundTrips(context)), ...(await goodput(context, { warmMs: 2000, ms: 1000 }))];
}

async function countedLoss(kernel: Kernel, ...report: Parameters<Measure["run"]>): Promise<Figure[]> {
  await using vm = await VirtualMachine.boot({ kernel, countInstructions: true, memoryMiB: 2048 });
  await vm.load(buildModule("splice", kernel));
  const site = await RelaySite.inside(vm, PHASES);
  await site.setOffloads(false);
  await site.queueAtRelays();
  const [say, draw, pace] = report;
  const context: Context = { site, machine: "counted", say, draw, pace };
  return [
    ...(await lossByRate(context, async (bytes) => {
      const { sent, seconds } = await site.rate(direct, bytes, 0, LOSS_MS);
      return (sent * bytes * 8) / seconds;
    })),
    ...(await lossBySize(context)),
  ];
}

async function small(kernel: Kernel, ...report: Parameters<Measure["run"]>): Promise<Figure[]> {
  await using vm = await VirtualMachine.boot({ kernel, ...SMALL_RELAY, qemuArguments: networkCards(PHASES) });
  await vm.load(buildModule("splice", kernel));
  await using site = await RelaySite.around(vm, PHASES);
  await site.setOffloads(false);
  const [say, draw, pace] = report;
  const context: Context = { site, machine: "small", say, draw, pace };
  const line = await limitLine(site);
  say(`the line carries ${(line / 1e6).toFixed(0)} Mbit/s`);
  return [
    figure("small relay: the senders' line", "Mbit/s", [line / 1e6]),
    ...(await roundTrips(context)),
    ...(await goodput(context, { warmMs: 1000, ms: 1000 })),
    ...(await lossByRate(context, async () => line)),
    ...(await lossBySize(context)),
  ];
}

/** Gives both ways out of host a the rate of a line. @returns bits per second */
async function limitLine(site: RelaySite): Promise<number> {
  const rates = [];
  for (let n = 0; n < 3; n++) rates.push(megabits(await site.tcp(forward, 10, { warmMs: 500, ms: 1000 })));
  const line = Math.round(median(rates) * LINE_SHARE * 1e6);
  for (const device of ["a0", "d0"]) {
    const shape = `rate ${line} burst ${LINE_BURST_BYTES} limit ${LINE_QUEUE_BYTES}`;
    await HOST.check(`ip netns exec a tc qdisc replace dev ${device} root tbf ${shape}`);
  }
  return line;
}

/** Figure 5.5. */
async function roundTrips({ site, machine, say, draw, pace }: Context): Promise<Figure[]> {
  const rounds = await interleave(
    PHASES,
    async (phase, round) => {
      const { median: time } = await site.roundTrips(phase, ROUND_TRIPS, ROUND_TRIP_BYTES);
      say(`round trips (${machine}), round ${round}: ${phase.title} ${time.toFixed(1)} us`);
      return time;
    },
    pace(ROUNDS),
  );
  draw({
    kind: "bars",
    name: `fig-5.5-round-trip-${machine}`,
    title: `Round trip of a UDP ping-pong, ${MACHINES[machine]}`,
    y: "microseconds",
    bars: PHASES.map((phase) => {
      const times = rounds.get(phase)!;
      return { name: phase.title.replace(", Passive Splice", ""), y: median(times), ...medianInterval(times) };
    }),
  });
  return [
    ...PHASES.map((phase) => figure(`${machine}: UDP round trip: ${phase.title}`, "us", rounds.get(phase)!)),
    figure(
      `${machine}: UDP round trip: ${passive.title} / ${nat.title}`,
      "x",
      pairedRatios(rounds.get(passive)!, rounds.get(nat)!),
    ),
  ];
}

/** Figures 5.6 and 5.7, and from how many connections on the splice is faster than NAT. */
async function goodput(
  { site, machine, say, draw, pace }: Context,
  time: { warmMs: number; ms: number },
): Promise<Figure[]> {
  const points = new Map<number, Map<Relay, number[]>>();
  for (const connections of CONNECTIONS) {
    const rounds = await interleave(
      PHASES,
      async (phase, round) => {
        const rate = megabits(await site.tcp(phase, connections, time));
        say(`TCP (${machine}), ${connections} connections, round ${round}: ${phase.title} ${rate.toFixed(0)} Mbit/s`);
        return rate;
      },
      pace(ROUNDS),
    );
    points.set(connections, rounds);
  }
  const plot: LinePlot = {
    kind: "lines",
    name: `fig-5.6-tcp-${machine}`,
    title: `TCP throughput, ${MACHINES[machine]}`,
    x: "connections",
    y: "Mbit/s",
    series: PHASES.map((phase) => series(phase, CONNECTIONS, (connections) => points.get(connections)!.get(phase)!)),
  };
  draw(plot);
  const close = plot.series.filter((one) => one.name !== direct.title && one.name !== userspace.title);
  const least = Math.min(...close.flatMap((one) => one.points.map((point) => point.low ?? point.y)));
  draw({
    ...plot,
    name: `fig-5.7-tcp-magnified-${machine}`,
    title: `${plot.title}, magnified`,
    series: close,
    from: { y: least * 0.98 },
  });
  const ratios = (a: Relay, b: Relay, connections: number): number[] => {
    const rounds = points.get(connections)!;
    return pairedRatios(rounds.get(a)!, rounds.get(b)!);
  };
  const beats = (connections: number): boolean => median(ratios(passive, nat, connections)) > 1;
  const crossing = CONNECTIONS.find((connections) => CONNECTIONS.filter((n) => n >= connections).every(beats));
  return [
    ...CONNECTIONS.flatMap((connections) =>
      PHASES.map((phase) =>
        detail(
          `${machine}: TCP, ${connections} connections: ${phase.title}`,
          "Mbit/s",
          points.get(connections)!.get(phase)!,
        ),
      ),
    ),
    ...[1, 10, 50, 100].flatMap((connections) =>
      [
        ...[forward, nat, userspace].map((other) => [passive, other] as const),
        ...[forward, nat].map((other) => [ebpfPassive, other] as const),
      ].map(([one, other]) =>
        figure(
          `${machine}: TCP, ${connections} connections: ${one.title} / ${other.title}`,
          "x",
          ratios(one, other, connections),
        ),
      ),
    ),
    ...(crossing === undefined
      ? []
      : [figure(`${machine}: the kernel IST is faster than NAT from`, "connections on", [crossing])]),
  ];
}

/** Figures 5.8 and 5.9. */
async function lossByRate(
  { site, machine, say, draw, pace }: Context,
  fullRate: (bytes: number) => Promise<number>,
): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [index, bytes] of DATAGRAM_BYTES.entries()) {
    const full = await fullRate(bytes);
    figures.push(figure(`${machine}: full rate with ${bytes} bytes`, "Mbit/s", [full / 1e6]));
    const points = new Map<number, Map<Relay, number[]>>();
    for (const share of RATES) {
      const rounds = await interleave(
        PHASES,
        async (phase, round) => {
          const loss = await lossOf(site, phase, bytes, full * share);
          say(
            `UDP (${machine}), ${bytes} bytes at ${share}, round ${round}: ${phase.title} loses ${loss.toFixed(1)} %`,
          );
          return loss;
        },
        pace(LOSS_ROUNDS),
      );
      points.set(share, rounds);
      for (const phase of PHASES) {
        figures.push(
          detail(
            `${machine}: UDP loss, ${bytes} bytes at ${share} of the full rate: ${phase.title}`,
            "%",
            rounds.get(phase)!,
          ),
        );
      }
    }
    draw({
      kind: "lines",
      name: `fig-5.${8 + index}-udp-loss-${bytes}-bytes-${machine}`,
      title: `UDP loss by rate, datagrams of ${bytes} bytes, ${MACHINES[machine]}`,
      x: "share of the full rate",
      y: "lost, %",
      series: PHASES.map((phase) => series(phase, RATES, (share) => points.get(share)!.get(phase)!)),
    });
  }
  return figures;
}

/** Figure 5.10. */
async function lossBySize({ site, machine, say, draw, pace }: Context): Promise<Figure[]> {
  const points = new Map<number, Map<Relay, number[]>>();
  for (const bytes of SIZES) {
    const rounds = await interleave(
      PHASES,
      async (phase, round) => {
        const loss = await lossOf(site, phase, bytes, 0);
        say(`UDP (${machine}), ${bytes} bytes at full rate, round ${round}: ${phase.title} loses ${loss.toFixed(1)} %`);
        return loss;
      },
      pace(LOSS_ROUNDS),
    );
    points.set(bytes, rounds);
  }
  draw({
    kind: "lines",
    name: `fig-5.10-udp-loss-by-size-${machine}`,
    title: `UDP loss at full rate, ${MACHINES[machine]}`,
    x: "bytes of a datagram",
    y: "lost, %",
    isLogarithmic: true,
    series: PHASES.map((phase) => series(phase, SIZES, (bytes) => points.get(bytes)!.get(phase)!)),
  });
  return SIZES.flatMap((bytes) =>
    PHASES.map((phase) =>
      detail(`${machine}: UDP loss, ${bytes} bytes at full rate: ${phase.title}`, "%", points.get(bytes)!.get(phase)!),
    ),
  );
}

/** @returns percent of what was sent */
async function lossOf(site: RelaySite, phase: Relay, bytes: number, bitsPerSecond: number): Promise<number> {
  const { sent, received } = await site.rate(phase, bytes, Math.round(bitsPerSecond), LOSS_MS);
  return Math.max(0, 1 - received / sent) * 100;
}

function series(phase: Relay, xs: readonly number[], valuesAt: (x: number) => readonly number[]): Series {
  return {
    name: phase.title,
    color: PHASES.indexOf(phase),
    points: xs.map((x) => ({ x, y: median(valuesAt(x)), ...medianInterval(valuesAt(x)) })),
  };
}

/** A point of a plot: the tables leave it out. */
function detail(what: string, unit: string, rounds: readonly number[]): Figure {
  return { ...figure(what, unit, rounds), isDetail: true };
}

import { Daemon, type TwoHomes, until } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { type Figure, figure } from "../figure.ts";
import { homesWithDelay, setRoundTrip } from "../homes.ts";
import type { FirstConnection } from "../load/client.ts";
import { Worker } from "../load/worker.ts";
import { READY_MS } from "../peers/path.ts";
import { interleave } from "../rounds.ts";
import type { Measure } from "./measure.ts";

/** R, from one home to the other and back. */
const ROUND_TRIPS_MS = [20, 100];
const ROUNDS = 15;
const SHORT_ROUNDS = 7;
const PORT = 7103;
const SERVICE = "stamp";
/** Subscriptions of a daemon before, so that the code of all that they run through is compiled. */
const WARM_UP = 30;

/** ISB and IST are midway. */
const ROUND_TRIP_TO_ISB = 1 / 2;
/** What a first connection may take: round trips to the ISB, R, and milliseconds beyond both. */
const MOST = { toIsb: 3, between: 1.5, beyondMs: 10 };

/** Who subscribes, and at whom. */
interface Pair {
  subscriber: Daemon;
  provider: Daemon;
}

interface Case {
  who: string;
  run: () => Promise<FirstConnection>;
}

/** What is timed, by where it starts. */
const STARTS = { connectMs: "connect()", subscribeMs: "subscribe" } as const;

export const firstConnection: Measure = {
  name: "first-connection",
  title: "The first connection of a new subscription",
  method: `A new subscription in each round: \`subscribe\` over the local API of the daemon in home A, and as soon as it has \
returned, connect() at the local port. Timed from either until the client's first byte is at the service in home B, on one \
clock for all; the command line would add the start of its process. Sealed, on delay lines, ISB and IST midway: R is the round \
trip between the homes, the one to the ISB half of it. Acquaintances have another subscription: an allocation, and a session \
each to the IST. Strangers have neither, nor have they met before, but each of them others, ${WARM_UP} times; those that were \
just started have no code compiled either.`,
  async run(say, _draw, pace) {
    await using lab = await Lab.create();
    const homes = await homesWithDelay(lab);
    const { alice, bob } = homes;
    const [service, client] = await Promise.all([
      Worker.start(bob.node, "service"),
      Worker.start(alice.node, "client"),
    ]);
    await service.call("listen", { port: PORT, behaviour: "stamp" });
    await setRoundTrip(lab, 0);

    const connect = ({ subscriber: { socket }, provider: { user } }: Pair): Promise<FirstConnection> =>
      client.call("firstConnection", { socket, service: `${SERVICE}@${user}` });
    const rounds = pace(ROUNDS, SHORT_ROUNDS);
    const acquaintances = { subscriber: alice, provider: bob };
    await offer(bob, SERVICE);
    await offer(bob, "other");
    await alice.subscribe(`other@${bob.user}`);
    for (let made = 0; made < WARM_UP; made++) await connect(acquaintances);
    say("daemons that are to be strangers are started");
    const strangers = await strangersOf(homes, (rounds + 1) * ROUND_TRIPS_MS.length, connect);

    let started = 0;
    const cases: Case[] = [
      { who: "acquaintances", run: () => connect(acquaintances) },
      { who: "strangers", run: async () => connect(await quiet(strangers.pop()!)) },
      { who: "strangers, just started", run: () => justStarted(homes, `new-${++started}`, connect) },
    ];
    const figures: Figure[] = [];
    for (const roundTripMs of ROUND_TRIPS_MS) {
      await setRoundTrip(lab, roundTripMs);
      say(`R = ${roundTripMs} ms`);
      const results = await interleave(cases, ({ run }) => run(), rounds);
      for (const [{ who }, times] of results) figures.push(...figuresOf(roundTripMs, who, times));
    }
    return figures;
  },
};

function figuresOf(roundTripMs: number, who: string, times: readonly FirstConnection[]): Figure[] {
  const isbMs = ROUND_TRIP_TO_ISB * roundTripMs;
  const withoutMs = MOST.toIsb * isbMs + MOST.between * roundTripMs;
  return Object.entries(STARTS).flatMap(([start, name]) => {
    const took = times.map((round) => round[start as keyof typeof STARTS]);
    const label = `R = ${roundTripMs} ms, to the ISB ${isbMs} ms, ${who}, from ${name}`;
    const beyond = `${label}: beyond ${MOST.toIsb} round trips to the ISB + ${MOST.between} R`;
    const excess = took.map((ms) => ms - withoutMs);
    return [figure(label, "ms", took), figure(beyond, "ms", excess, { atMost: MOST.beyondMs })];
  });
}

/**
 * Pairs of daemons of which each has met another one, until its code was compiled, but not the one that it is paired with.
 */
async function strangersOf(homes: TwoHomes, count: number, connect: (pair: Pair) => Promise<unknown>): Promise<Pair[]> {
  const size = Math.ceil((1 + Math.sqrt(1 + 4 * count)) / 2);
  const met: Pair[] = [];
  for (let made = 0; made < size; made++) {
    const pair = await newPair(homes, `${made}`);
    for (let round = 0; round < WARM_UP; round++) await connect(pair);
    met.push(pair);
  }
  // Each with the one after its own, then with the one after that, and so on: a daemon rests for as long as it can.
  return Array.from({ length: count }, (_, index) => {
    const shift = 1 + Math.floor(index / size);
    return { subscriber: met[index % size]!.subscriber, provider: met[(index + shift) % size]!.provider };
  });
}

async function newPair({ alice, bob, deployment }: TwoHomes, name: string): Promise<Pair> {
  const start = async ({ node, user }: Daemon): Promise<Daemon> => {
    const own = `${user}-${name}`;
    const daemon = await new Daemon(node, { user: own, device: own }).start();
    await daemon.login(await deployment.isb.invite(own));
    return daemon;
  };
  const [subscriber, provider] = await Promise.all([start(alice), start(bob)]);
  await offer(provider, SERVICE);
  return { subscriber, provider };
}

async function offer(daemon: Daemon, name: string): Promise<void> {
  await daemon.provide(name, "--tcp", `127.0.0.1:${PORT}`, "--anyone");
}

/** Once they have left the IST, which they do some time after their last subscription. */
async function quiet(pair: Pair): Promise<Pair> {
  for (const daemon of [pair.subscriber, pair.provider]) {
    const isQuiet = async () => ((await daemon.status()).ists.length === 0 ? true : undefined);
    await until(`the daemon of ${daemon.user} has left the IST`, isQuiet, READY_MS);
  }
  return pair;
}

async function justStarted(homes: TwoHomes, name: string, connect: (pair: Pair) => Promise<FirstConnection>) {
  const pair = await newPair(homes, name);
  try {
    return await connect(pair);
  } finally {
    await Promise.all([pair.subscriber.stop(), pair.provider.stop()]);
  }
}

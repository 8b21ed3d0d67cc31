import { Daemon, type TwoHomes } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { type Figure, figure } from "../figure.ts";
import { homesWithDelay, setRoundTrip } from "../homes.ts";
import type { FirstConnection } from "../load/client.ts";
import { Worker } from "../load/worker.ts";
import { interleave } from "../rounds.ts";
import type { Measure } from "./measure.ts";

/** R, from one home to the other and back. */
const ROUND_TRIPS_MS = [20, 50, 100];
const ROUNDS = 15;
const SHORT_ROUNDS = 7;
const PORT = 7103;
/** Subscriptions before, so that the code of what lives on is compiled. */
const WARM_UP = 50;

/** ISB and IST are midway. */
const ROUND_TRIP_TO_ISB = 1 / 2;
/** What a first connection may take: round trips to the ISB, R, and milliseconds beyond both. */
const MOST = { toIsb: 3, between: 1.5, beyondMs: 10 };

/** Who subscribes. */
interface Case {
  what: string;
  run: () => Promise<FirstConnection>;
}

/** What is timed, by where it starts. */
const STARTS = {
  connectMs: "from connect() on",
  subscribeMs: "from the call of subscribe on",
} as const;

export const firstConnection: Measure = {
  name: "first-connection",
  title: "The first connection of a new subscription",
  method: `A new subscription in each round: \`subscribe\` over the local API of the daemon in home A, and as soon as it has \
returned, connect() at the local port. Timed until the client's first byte is at the service in home B, on one clock for all; \
the command line would add the start of its process. Sealed, on delay lines; ISB and IST are midway: R is the round trip \
between the homes, the one to the ISB half of it. Daemons that know each other have keys and an allocation from subscriptions \
before, and both a session to the IST; strangers were started for the round, and have none of these, nor any code compiled.`,
  async run(say, _draw, pace) {
    await using lab = await Lab.create();
    const homes = await homesWithDelay(lab);
    const [service, client] = await Promise.all([
      Worker.start(homes.bob.node, "service"),
      Worker.start(homes.alice.node, "client"),
    ]);
    await service.call("listen", { port: PORT, behaviour: "stamp" });
    let made = 0;
    const cases: Case[] = [
      { what: "daemons that know each other", run: () => subscribeAndConnect(homes, client, `known-${++made}`) },
      { what: "strangers", run: () => asStrangers(homes, client, ++made) },
    ];

    await setRoundTrip(lab, 0);
    for (let round = 0; round < WARM_UP; round++) await cases[0]!.run();
    const figures: Figure[] = [];
    for (const roundTripMs of ROUND_TRIPS_MS) {
      await setRoundTrip(lab, roundTripMs);
      say(`R = ${roundTripMs} ms`);
      const results = await interleave(cases, ({ run }) => run(), pace(ROUNDS, SHORT_ROUNDS));
      for (const [{ what }, times] of results) figures.push(...figuresOf(roundTripMs, what, times));
    }
    return figures;
  },
};

function figuresOf(roundTripMs: number, who: string, times: readonly FirstConnection[]): Figure[] {
  const isbMs = ROUND_TRIP_TO_ISB * roundTripMs;
  const withoutMs = MOST.toIsb * isbMs + MOST.between * roundTripMs;
  return Object.entries(STARTS).flatMap(([start, name]) => {
    const took = times.map((round) => round[start as keyof typeof STARTS]);
    const label = `R = ${roundTripMs} ms, to the ISB ${isbMs} ms, ${who}: ${name}`;
    return [
      figure(label, "ms", took, { atMost: withoutMs + MOST.beyondMs }),
      figure(
        `${label}, beyond ${MOST.toIsb} round trips to the ISB + ${MOST.between} R`,
        "ms",
        took.map((ms) => ms - withoutMs),
      ),
    ];
  });
}

/** One subscription from its beginning to its end. */
async function subscribeAndConnect(
  { alice, bob }: Pick<TwoHomes, "alice" | "bob">,
  client: Worker,
  name: string,
): Promise<FirstConnection> {
  await bob.provide(name, "--tcp", `127.0.0.1:${PORT}`, "--allow", alice.user);
  const service = `${name}@${bob.user}`;
  const times = await client.call<FirstConnection>("firstConnection", { socket: alice.socket, service });
  await alice.json(["unsubscribe", service]);
  await bob.json(["withdraw", name]);
  return times;
}

/** The same between two daemons that live for it alone, on the hosts of the two that stay. */
async function asStrangers({ alice, bob, deployment }: TwoHomes, client: Worker, number: number) {
  const fresh = async ({ node, user }: Daemon): Promise<Daemon> => {
    const name = `${user}-${number}`;
    const daemon = await new Daemon(node, { user: name, device: name }).start();
    await daemon.login(await deployment.isb.invite(name));
    return daemon;
  };
  const [subscriber, provider] = await Promise.all([fresh(alice), fresh(bob)]);
  try {
    return await subscribeAndConnect({ alice: subscriber, bob: provider }, client, "new");
  } finally {
    await Promise.all([subscriber.stop(), provider.stop()]);
  }
}

import type { Isb } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { type Figure, figure } from "../figure.ts";
import { forwardPort, homesWithDelay, setRoundTrip } from "../homes.ts";
import { Worker } from "../load/worker.ts";
import { isthmusPath } from "../peers/isthmus.ts";
import { interleave } from "../rounds.ts";
import { pairedDifferences } from "../statistics.ts";
import type { Measure } from "./measure.ts";

/** R, from one home to the other and back. */
const ROUND_TRIPS_MS = [20, 50, 100];
const ROUNDS = 15;
const SHORT_ROUNDS = 9;
/** Connections of each kind before, so that the code of all is compiled, as in daemons that have run for a while. */
const WARM_UP = 300;

/** What is timed, and how many R it takes over TCP without anything between. */
const EVENTS = {
  firstByte: { what: "client's first byte at the service", least: 1.5, port: 7101, behaviour: "stamp" },
  banner: { what: "service's banner at the client", least: 2, port: 7102, behaviour: "banner" },
} as const;
/** Beyond that, milliseconds. */
const MOST_BEYOND_MS = 2;

type Event = keyof typeof EVENTS;

interface Case {
  event: Event;
  path: "direct" | "sealed";
  host: string;
  port: number;
}

export const firstByte: Measure = {
  name: "first-byte",
  title: "A new connection of an existing subscription",
  method: `One connection at a time from home A to home B, sealed, over an IST midway, on delay lines: R is the round trip \
between the homes. Timed from the client's connect() on one clock for all, after ${WARM_UP} connections of each kind. Direct TCP \
beside it goes through a port forwarding of the provider's router; what it takes beyond its share of R is the delay lines' \
own work and the machine's.`,
  async run(say, _draw, pace) {
    await using lab = await Lab.create();
    const homes = await homesWithDelay(lab);
    const { alice, bob, deployment } = homes;
    const [service, client] = await Promise.all([
      Worker.start(bob.node, "service"),
      Worker.start(alice.node, "client"),
    ]);
    const cases: Case[] = [];
    for (const [event, { port, behaviour }] of Object.entries(EVENTS) as [Event, (typeof EVENTS)[Event]][]) {
      await service.call("listen", { host: "0.0.0.0", port, behaviour });
      const sealed = await isthmusPath(homes, { name: event.toLowerCase(), port, listen: port - 1000 });
      cases.push({ event, path: "direct", host: await forwardPort(homes, port), port });
      cases.push({ event, path: "sealed", host: sealed.host, port: sealed.port });
    }

    const before = await messagesOfDaemons(deployment.isb);
    const figures = [await veryFirst(lab, client, cases)];
    await setRoundTrip(lab, 0);
    for (const { event, host, port } of cases) {
      for (let made = 0; made < WARM_UP; made++) await client.call(event, { host, port });
    }
    for (const roundTripMs of ROUND_TRIPS_MS) {
      await setRoundTrip(lab, roundTripMs);
      say(`R = ${roundTripMs} ms`);
      const results = await interleave(
        cases,
        ({ event, host, port }) => client.call<number>(event, { host, port }),
        pace(ROUNDS, SHORT_ROUNDS),
      );
      figures.push(...figuresOf(roundTripMs, results));
    }
    const messages = (await messagesOfDaemons(deployment.isb)) - before;
    figures.push(figure("messages of the daemons to the ISB meanwhile", "messages", [messages], { atMost: 0 }));
    return figures;
  },
};

/** Of everything: no code of the daemons and the IST that it runs through has run before. */
async function veryFirst(lab: Lab, client: Worker, cases: readonly Case[]): Promise<Figure> {
  const [roundTripMs] = ROUND_TRIPS_MS as [number];
  await setRoundTrip(lab, roundTripMs);
  const { event, host, port } = cases.find(({ path }) => path === "sealed")!;
  const { what, least } = EVENTS[event];
  const time = await client.call<number>(event, { host, port });
  const label = `R = ${roundTripMs} ms, Isthmus, the very first connection: ${what}, beyond ${least} R`;
  return figure(label, "ms", [time - least * roundTripMs]);
}

function figuresOf(roundTripMs: number, results: ReadonlyMap<Case, number[]>): Figure[] {
  return [...results].flatMap(([{ event, path }, times]) => {
    const { what, least } = EVENTS[event];
    const label = `R = ${roundTripMs} ms, ${path === "direct" ? "direct TCP" : "Isthmus"}: ${what}`;
    const beyond = times.map((time) => time - least * roundTripMs);
    const goal = path === "sealed" ? { atMost: MOST_BEYOND_MS } : undefined;
    const inRoundTrips = times.map((time) => time / roundTripMs);
    const figures = [figure(label, "R", inRoundTrips), figure(`${label}, beyond ${least} R`, "ms", beyond, goal)];
    if (path === "direct") return figures;
    const [, direct] = [...results].find(([other]) => other.event === event && other.path === "direct")!;
    return [...figures, figure(`${label}, against direct TCP`, "ms", pairedDifferences(times, direct))];
  });
}

/** Requests, events and binary frames that the ISB has received of daemons; heartbeats are none of these. */
async function messagesOfDaemons(isb: Isb): Promise<number> {
  const page = await isb.metrics();
  const samples = page.matchAll(/^isthmus_isb_messages_received_total\{[^}]*role="daemon"[^}]*\} (\d+)$/gm);
  return [...samples].reduce((sum, [, count]) => sum + Number(count), 0);
}

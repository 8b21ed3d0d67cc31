import { setTimeout as sleep } from "node:timers/promises";
import { Deployment } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newPair, type Pair } from "./fixtures/pairs.ts";
import { Traffic } from "./fixtures/traffic.ts";
import { Watch } from "./fixtures/watch.ts";

const DEADLINE_MS = 10_000;
/** How long the services of a daemon whose session broke stay in the directory. */
const GRACE_MS = 20_000;
const OUTAGE_MS = 10_000;

interface Case {
  name: string;
  /** What happens; the deadline counts from its end. */
  event: (pair: Pair) => Promise<void>;
}

const CASES: Case[] = [
  {
    name: "the subscriber's home gets another address, and its router forgets its flows",
    event: ({ subscriber }) => subscriber.home.changeAddress("forgotten"),
  },
  {
    name: "the provider's home gets another address, and its router forgets its flows",
    event: ({ provider }) => provider.home.changeAddress("forgotten"),
  },
  {
    name: "the subscriber's home gets another address, and old flows go nowhere",
    event: ({ subscriber }) => subscriber.home.changeAddress("blackholed"),
  },
  {
    name: "the provider's home gets another address, and old flows go nowhere",
    event: ({ provider }) => provider.home.changeAddress("blackholed"),
  },
  {
    name: "the subscriber's home is off line for ten seconds",
    event: async ({ subscriber }) => {
      await subscriber.home.link.down();
      await sleep(OUTAGE_MS);
      await subscriber.home.link.up();
    },
  },
  {
    name: "the provider's home is off line for ten seconds",
    event: async ({ provider }) => {
      await provider.home.link.down();
      await sleep(OUTAGE_MS);
      await provider.home.link.up();
    },
  },
  { name: "the subscriber's router forgets its flows", event: ({ subscriber }) => subscriber.home.forgetFlows() },
  { name: "the provider's router forgets its flows", event: ({ provider }) => provider.home.forgetFlows() },
  { name: "the subscriber's router restarts", event: ({ subscriber }) => subscriber.home.restart() },
  { name: "the provider's router restarts", event: ({ provider }) => provider.home.restart() },
];

let lab: Lab;
let deployment: Deployment;

beforeAll(async () => {
  lab = await Lab.create();
  const [isb, ist] = await Promise.all([lab.host("isb"), lab.host("ist")]);
  deployment = await Deployment.start({ isb, ists: [ist] });
});

afterAll(async () => {
  await lab?.destroy();
});

describe.concurrent("works again within 10 s when", () => {
  it.for(CASES.map((one, index) => ({ ...one, index })))("$name", async ({ event, index }, { onTestFailed }) => {
    const pair = await newPair(lab, deployment, { name: `p${index}` });
    onTestFailed(() => {
      for (const side of ["subscriber", "provider"] as const) {
        console.log(`the ${side}'s daemon:\n${pair[side].daemon.program.output.lastLines(100)}`);
      }
    });
    const traffic = await Traffic.start(pair.subscriber.home.host, pair.port);

    await event(pair);

    const since = Date.now();
    const again = { tcp: DEADLINE_MS, udp: DEADLINE_MS };
    for (const kind of ["tcp", "udp"] as const) again[kind] = await traffic.workedAgain(kind, since, DEADLINE_MS);
    expect(again.tcp).toBeLessThan(DEADLINE_MS);
    expect(again.udp).toBeLessThan(DEADLINE_MS);
    await traffic.stop();
  });
});

describe.concurrent("a daemon that is killed", () => {
  it("as a provider leaves the directory after 20 s, and returns with all it provides", async () => {
    const { subscriber, provider, port } = await newPair(lab, deployment, { name: "killp" });
    const service = `echo@${provider.daemon.user}`;
    const watch = Watch.start(subscriber.daemon);
    await watch.newest(service, "present");
    const traffic = await Traffic.start(subscriber.home.host, port);

    const killed = Date.now();
    await provider.daemon.kill();
    await watch.newest(service, "away", GRACE_MS + 2000);
    const stayed = Date.now() - killed;
    await provider.daemon.start();
    const started = Date.now();
    await watch.newest(service, "present", DEADLINE_MS);

    expect(stayed).toBeGreaterThan(GRACE_MS - 1000);
    expect(watch.eventsOf(service)).toEqual(["present", "away", "present"]);
    for (const kind of ["tcp", "udp"] as const) {
      expect(await traffic.workedAgain(kind, started, DEADLINE_MS)).toBeLessThan(DEADLINE_MS);
    }
    await traffic.stop();
  });

  it("as a subscriber comes back with its subscriptions at the same ports", async () => {
    const { subscriber, port } = await newPair(lab, deployment, { name: "kills" });
    const traffic = await Traffic.start(subscriber.home.host, port);

    await subscriber.daemon.kill();
    await subscriber.daemon.start();

    const started = Date.now();
    for (const kind of ["tcp", "udp"] as const) {
      expect(await traffic.workedAgain(kind, started, DEADLINE_MS)).toBeLessThan(DEADLINE_MS);
    }
    await traffic.stop();
  });
});

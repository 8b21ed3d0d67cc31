import { Isb, Ist } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { decodeInvite, encodeInvite, type Invite } from "@isthmus/protocol";
import { cpuSeconds } from "../cpu.ts";
import { type Figure, figure } from "../figure.ts";
import type { IsbAddress, Registration } from "../load/swarm.ts";
import { Worker } from "../load/worker.ts";
import { ROUNDS } from "../rounds.ts";
import { settledMemory } from "../settle.ts";
import type { Measure } from "./measure.ts";

const LOGINS = 15_000;
const PROVIDERS = 50;
const DEVICES_PER_USER = 100;
/** Load generators: one cannot have so many sockets. */
const SWARMS = 2;
/** Logins, and negotiations, that one load generator has under way. */
const AT_ONCE = 32;
const NEGOTIATIONS_PER_ROUND = 2000;
const SUBSCRIBERS = 500;
const TIMEOUT_MS = 180_000;

const MOST_KB = 10;
const LEAST_LOGINS = 1500;
const LEAST_NEGOTIATIONS = 3000;

/** Limits that keep one address or device from asking for much are out of the way: here one is all of them. */
const ISB_SETTINGS = {
  TLS__MODE: "proxy",
  DEVICES_PER_USER: "1000",
  ...Object.fromEntries(
    ["CONNECTS", "REQUESTS", "SUBSCRIBES", "SERVICE_CHANGES"].flatMap((rate) => [
      [`RATES__${rate}__PER_SECOND`, "1000000"],
      [`RATES__${rate}__BURST`, "1000000"],
    ]),
  ),
};

export const broker: Measure = {
  name: "broker",
  title: "The ISB with 15,000 logins in one process",
  method: `${LOGINS} registered devices log in over ws, as behind a proxy that ends TLS (tls.mode = proxy), with the real \
mutual login and a declaration, and then idle with their heartbeats. Embedded store. Per CPU-second of the ISB's \
process. A registration writes the device, its name and the used invite, synced to the disk together with whatever else is \
written in that turn; a login and a negotiation of registered devices write nothing. A negotiation is subscribe, the \
provider's accept, an allocation at a real IST, the answer and the unsubscribe, each time between two devices that have \
no other; daemons are sessions without anything behind them.`,
  async run(say, _draw, pace) {
    const rounds = pace(ROUNDS);
    await using lab = await Lab.create();
    const hosts = await Promise.all(["isb", "ist", ...swarmNames()].map((name) => lab.host(name)));
    const [isbHost, istHost, ...swarmHosts] = hosts as [(typeof hosts)[0], (typeof hosts)[0], ...typeof hosts];
    const origin = `ws://${isbHost.ipv4}:7443`;
    const settings = { ...ISB_SETTINGS, PUBLIC: JSON.stringify([origin]) };
    const isb = await new Isb(isbHost, [], withPrefix("ISTHMUS_ISB_", settings)).start();
    const ist = new Ist(istHost);
    await ist.join(encodeInvite({ ...decodeInvite(await isb.inviteIst()), secure: false }));
    await ist.start();
    const swarms = await Promise.all(swarmHosts.map((host) => Worker.start(host, "swarm")));

    const [empty] = (await settledMemory([isb.program])) as [number];
    const registered = await register(isb, swarms, origin, say);
    await Promise.all(swarms.map((swarm) => swarm.call("logOut", {}, TIMEOUT_MS)));
    await isb.stop();
    await isb.start();
    await ist.ready(30_000);
    const [known] = (await settledMemory([isb.program])) as [number];

    const logins = await measureLogins(isb, swarms, registered.isb, { say, rounds });
    say("waiting for memory to settle");
    const [present] = (await settledMemory([isb.program])) as [number];
    const negotiations = await measureNegotiations(isb, swarms, { say, rounds });

    const kilobytes = (bytes: number): number => bytes / LOGINS / 1000;
    return [
      figure("resident memory of an idle login", "KB", [kilobytes(present - known)], { atMost: MOST_KB }),
      figure("resident memory of a registered device, logged in or not", "KB", [kilobytes(known - empty)]),
      figure("registrations", "per CPU-second", [registered.perCpuSecond]),
      figure("registrations", "per second", [registered.perSecond]),
      figure("logins", "per CPU-second", logins.perCpuSecond, { atLeast: LEAST_LOGINS }),
      ...negotiations,
    ];
  },
};

interface Progress {
  say: (progress: string) => void;
  rounds: number;
}

function swarmNames(): string[] {
  return Array.from({ length: SWARMS }, (_, number) => `swarm-${number}`);
}

function withPrefix(prefix: string, values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [prefix + key, value]));
}

async function inviteFor(isb: Isb, user: string, uses: number): Promise<Invite> {
  const body = { role: "daemon", user, uses, lifetimeS: 3600 };
  return decodeInvite((await isb.admin<{ invite: string }>("POST", "/v1/invites", body)).invite);
}

/** Of the first swarm the first devices, one of a user each, are to be the providers. */
async function register(isb: Isb, swarms: Worker[], origin: string, say: (progress: string) => void) {
  say(`${LOGINS} registrations`);
  const perSwarm = LOGINS / SWARMS;
  let fingerprint = "";
  const plans = await Promise.all(
    swarms.map(async (swarm, number) => {
      const registrations: Registration[] = [];
      const add = async (user: string, uses: number): Promise<void> => {
        const invite = await inviteFor(isb, user, uses);
        fingerprint = invite.isb;
        registrations.push({ token: invite.token, uses });
      };
      let left = perSwarm;
      for (let provider = 0; number === 0 && provider < PROVIDERS; provider++, left--) {
        await add(`provider-${provider}`, 1);
      }
      for (let user = 0; left > 0; user++, left -= DEVICES_PER_USER) {
        await add(`user-${number}-${user}`, Math.min(left, DEVICES_PER_USER));
      }
      return { swarm, registrations };
    }),
  );
  const address: IsbAddress = { origin, fingerprint };
  const before = cpuSeconds([isb.program.pid]);
  const started = performance.now();
  await Promise.all(
    plans.map(({ swarm, registrations }) =>
      swarm.call("register", { isb: address, registrations, atOnce: AT_ONCE }, TIMEOUT_MS),
    ),
  );
  const seconds = (performance.now() - started) / 1000;
  const used = cpuSeconds([isb.program.pid]) - before;
  return { isb: address, perSecond: LOGINS / seconds, perCpuSecond: LOGINS / used };
}

async function measureLogins(isb: Isb, swarms: Worker[], address: IsbAddress, { say, rounds: counted }: Progress) {
  const common = { isb: address, atOnce: AT_ONCE };
  const [first] = swarms as [Worker];
  await first.call("logIn", { ...common, from: 0, to: PROVIDERS, provides: true }, TIMEOUT_MS);
  const perSwarm = LOGINS / SWARMS;
  const perCpuSecond: number[] = [];
  const rounds = counted + 1;
  const edge = (round: number): number => PROVIDERS + Math.round(((perSwarm - PROVIDERS) * round) / rounds);
  for (let round = 0; round < rounds; round++) {
    const [from, to] = [edge(round), edge(round + 1)];
    const before = cpuSeconds([isb.program.pid]);
    await Promise.all(swarms.map((swarm) => swarm.call("logIn", { ...common, from, to }, TIMEOUT_MS)));
    const rate = (SWARMS * (to - from)) / (cpuSeconds([isb.program.pid]) - before);
    say(`logins, round ${round - 1}: ${rate.toFixed(0)} per CPU-second`);
    // The first one warms up.
    if (round > 0) perCpuSecond.push(rate);
  }
  // What the swarms after the first have at the places of the providers.
  for (const swarm of swarms.slice(1)) await swarm.call("logIn", { ...common, from: 0, to: PROVIDERS }, TIMEOUT_MS);
  const present = await Promise.all(swarms.map((swarm) => swarm.call<number>("present")));
  const total = present.reduce((sum, count) => sum + count, 0);
  if (total !== LOGINS) throw new Error(`${total} are logged in instead of ${LOGINS}`);
  return { perCpuSecond };
}

async function measureNegotiations(isb: Isb, swarms: Worker[], { say, rounds }: Progress): Promise<Figure[]> {
  const [, second] = swarms as [Worker, Worker];
  const providers = Array.from({ length: PROVIDERS }, (_, number) => `provider-${number}`);
  const perCpuSecond: number[] = [];
  const medians: number[] = [];
  const p99s: number[] = [];
  for (let round = -1; round < rounds; round++) {
    const before = cpuSeconds([isb.program.pid]);
    const argument = { subscribers: SUBSCRIBERS, providers, count: NEGOTIATIONS_PER_ROUND, atOnce: AT_ONCE };
    const times = await second.call<{ median: number; p99: number }>("negotiate", argument, TIMEOUT_MS);
    const rate = NEGOTIATIONS_PER_ROUND / (cpuSeconds([isb.program.pid]) - before);
    say(`negotiations, round ${round}: ${rate.toFixed(0)} per CPU-second`);
    if (round < 0) continue;
    perCpuSecond.push(rate);
    medians.push(times.median);
    p99s.push(times.p99);
  }
  return [
    figure("negotiations", "per CPU-second", perCpuSecond, { atLeast: LEAST_NEGOTIATIONS }),
    figure(`a negotiation, ${AT_ONCE} at once, median`, "ms", medians),
    figure(`a negotiation, ${AT_ONCE} at once, 99th percentile`, "ms", p99s),
  ];
}

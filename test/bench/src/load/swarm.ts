/**
 * Many daemons' logins at an ISB from one process: the sessions are those of real daemons (packages/session), with
 * nothing behind them.
 */
import { randomBytes } from "node:crypto";
import { isbDaemon } from "@isthmus/protocol";
import { createIdentity, createLogger, type Identity } from "@isthmus/service";
import { BACKOFF_TO_ISB, SessionClient } from "@isthmus/session";
import { quantile } from "../statistics.ts";
import { serveCommands } from "./commands.ts";

type Session = SessionClient<typeof isbDaemon>;

export interface IsbAddress {
  origin: string;
  fingerprint: string;
}

/** The right to register `uses` devices. */
export interface Registration {
  token: string;
  uses: number;
}

/** As long as that of a real daemon; the ISB passes it on without looking into it. */
const HANDSHAKE = randomBytes(400).toString("base64url");
/** Every device of a swarm that provides provides it, to everybody. */
const SERVICE = "bench";

const identities: Identity[] = [];
const sessions = new Map<number, Session>();
const logger = createLogger({ name: "swarm", level: "silent" });
const boot = randomBytes(8).toString("hex");

async function logIn(index: number, isb: IsbAddress, options: { token?: string; provides?: boolean }): Promise<void> {
  const { token, provides = false } = options;
  const up = Promise.withResolvers<void>();
  const session: Session = new SessionClient({
    protocol: isbDaemon,
    identity: identities[index]!,
    role: "daemon",
    serverRole: "isb",
    target: { origins: [isb.origin], expect: { fingerprint: isb.fingerprint } },
    boot,
    registration: () => (token === undefined ? undefined : { invite: token, device: `device-${index}` }),
    allowInsecure: true,
    backoff: BACKOFF_TO_ISB,
    handlers: {
      requests: { ask: () => ({ handshake: HANDSHAKE }) },
      events: { told: ignore, renegotiate: ignore, ended: ignore, directory: ignore, reachability: ignore },
    },
    onLogin: async () => {
      await session.request("declare", { services: provides ? [serviceOf()] : [], subscriptions: [] });
    },
    onUp: up.resolve,
    logger,
  });
  sessions.set(index, session);
  session.start();
  await up.promise;
}

function ignore(): void {}

function serviceOf() {
  return {
    name: SERVICE,
    channels: [{ id: "tcp", proto: "tcp" as const, opener: "subscriber" as const }],
    allow: { anyone: true },
  };
}

/** Runs `work` for each, so many at a time. */
async function each<T>(things: readonly T[], atOnce: number, work: (thing: T) => Promise<void>): Promise<void> {
  const left = [...things].reverse();
  const some = async (): Promise<void> => {
    for (let thing = left.pop(); thing !== undefined; thing = left.pop()) await work(thing);
  };
  await Promise.all(Array.from({ length: atOnce }, some));
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, index) => from + index);

await serveCommands({
  /** Makes devices and registers each; they stay logged in. @returns how many there are */
  register: async (what: { isb: IsbAddress; registrations: Registration[]; atOnce: number }) => {
    const fresh = what.registrations.flatMap(({ token, uses }) => Array.from({ length: uses }, () => token));
    const first = identities.length;
    for (let made = 0; made < fresh.length; made++) identities.push(createIdentity());
    await each(range(first, identities.length), what.atOnce, (index) =>
      logIn(index, what.isb, { token: fresh[index - first]! }),
    );
    return identities.length;
  },

  logIn: async (what: { isb: IsbAddress; from: number; to: number; atOnce: number; provides?: boolean }) => {
    const { provides = false } = what;
    await each(range(what.from, what.to), what.atOnce, (index) => logIn(index, what.isb, { provides }));
  },

  logOut: async () => {
    const all = [...sessions.values()];
    sessions.clear();
    await Promise.all(all.map((session) => session.stop()));
  },

  /** How many are logged in. */
  present: () => [...sessions.values()].filter(({ state }) => state === "up").length,

  /**
   * Subscribes and unsubscribes again and again, each time from another device to another provider.
   * @returns milliseconds from `subscribe` to its answer
   */
  negotiate: async (what: { subscribers: number; providers: string[]; count: number; atOnce: number }) => {
    const times: number[] = [];
    await each(range(0, what.count), what.atOnce, async (number) => {
      const session = sessions.get(number % what.subscribers)!;
      const user = what.providers[Math.floor(number / what.subscribers) % what.providers.length]!;
      const subscription = randomBytes(16).toString("base64url");
      const started = performance.now();
      await session.request("subscribe", { subscription, service: SERVICE, user, handshake: HANDSHAKE });
      times.push(performance.now() - started);
      await session.request("unsubscribe", { subscription });
    });
    return { median: quantile(times, 0.5), p99: quantile(times, 0.99) };
  },
});

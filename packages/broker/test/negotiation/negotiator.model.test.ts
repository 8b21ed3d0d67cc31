import { IsthmusError } from "@isthmus/protocol";
import { createIdentity, silentLogger } from "@isthmus/service";
import { openStore } from "@isthmus/store";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Directory } from "../../src/directory/directory.ts";
import type { Listing } from "../../src/directory/listing.ts";
import { IstRegistry } from "../../src/ist/registry.ts";
import { Pairs } from "../../src/meeting/pairs.ts";
import { Subscriptions } from "../../src/meeting/subscriptions.ts";
import { Negotiator } from "../../src/negotiation/negotiator.ts";
import { Profiles } from "../../src/profiles/profiles.ts";
import { limitsOf } from "../../src/settings.ts";
import { testSettings } from "../support/settings.ts";
import { FakeSession } from "./fake-sessions.ts";

// The real negotiator with what it works on (pairs, subscriptions, registry of ISTs), between daemons and an IST whose
// messages arrive in any order, or not at all.

const HOUR_MS = 3_600_000;
const isb = createIdentity();
const provider = createIdentity().publicKey;
const subscriber = createIdentity().publicKey;
const ist = createIdentity().publicKey;

const listing: Listing = {
  id: "alice/web",
  owner: "alice",
  allow: { anyone: true, users: [] },
  device: provider,
  deviceName: "desk",
  spec: {
    name: "web",
    channels: [],
    behaviour: "plain",
    plain: false,
    description: "",
    allow: { anyone: true, users: [] },
  },
  present: true,
};

/** An IST that keeps its allocations over sessions. */
class FakeIst {
  /** Ids by pair. */
  readonly living = new Map<string, string>();
  #made = 0;
  isFull = false;

  readonly peer = {
    allocate: ({ sides }: { sides: [string, string] }) => {
      if (this.isFull) throw new IsthmusError("ist-full");
      const pair = sides.join(" ");
      const allocation = this.living.get(pair) ?? (++this.#made).toString(16).padStart(16, "0");
      this.living.set(pair, allocation);
      return { allocation, shares: [{}, {}] };
    },
    release: ({ allocation }: { allocation: string }) => {
      for (const [pair, id] of this.living) if (id === allocation) this.living.delete(pair);
      return {};
    },
  };
}

type Outcome = { told: string } | { failed: string };

class World {
  clock = 0;
  readonly scheduler: fc.Scheduler;
  readonly daemons = new Map<string, FakeSession>();
  readonly fakeIst = new FakeIst();
  readonly ists: IstRegistry;
  readonly pairs: Pairs;
  readonly subscriptions: Subscriptions;
  readonly negotiator: Negotiator;
  readonly directory: Directory;
  readonly ends: string[] = [];
  /** Each time that a request was sent, over which session, and what came of it. */
  readonly sent: { session: FakeSession; outcomes: Outcome[] }[] = [];
  #istSession: FakeSession | undefined;
  /** Allocations that a daemon was told of. */
  readonly #told = new Set<string>();
  #boots = 0;
  accepts = true;

  constructor(scheduler: fc.Scheduler, profiles: Profiles) {
    this.scheduler = scheduler;
    this.directory = new Directory(() => undefined);
    this.directory.put(listing);
    this.ists = new IstRegistry({ lost: (...args) => this.pairs.lost(...args), logger: silentLogger() });
    const limits = limitsOf(testSettings().allocation);
    this.pairs = new Pairs({ ists: this.ists, limits, now: () => this.clock });
    const daemons = (key: string) => this.daemons.get(key) as never;
    this.subscriptions = new Subscriptions({
      identity: isb,
      profiles,
      pairs: this.pairs,
      daemons,
      now: () => this.clock,
      onEnd: ({ negotiation }) => negotiation !== undefined && this.negotiator.forgetAnswer(negotiation),
    });
    this.negotiator = new Negotiator({
      profiles,
      directory: this.directory,
      daemons,
      pairs: this.pairs,
      subscriptions: this.subscriptions,
      isBlinking: () => false,
      now: () => this.clock,
      onEnd: (outcome) => this.ends.push(outcome),
      logger: silentLogger(),
    });
    this.istUp();
    this.providerUp();
    this.subscriberUp();
  }

  subscribe(request: number, waitMs: number): void {
    const session = this.daemons.get(subscriber);
    if (!session) return;
    const id = `r${request}`;
    const body = {
      subscription: `s${request % 2}`,
      service: "web",
      user: "alice",
      handshake: "AAAA",
      plain: false,
      waitMs,
    };
    const outcomes: Outcome[] = [];
    this.sent.push({ session, outcomes });
    const settle = (outcome: Outcome) => outcomes.push(outcome);
    try {
      Promise.resolve(this.negotiator.subscribe(session as never, body, id)).then(
        ({ grant, allocation }) => {
          if (allocation && session.isUp) this.#told.add(allocation.allocation);
          settle({ told: grant });
        },
        (error: IsthmusError) => settle({ failed: error.code }),
      );
    } catch (error) {
      settle({ failed: (error as IsthmusError).code });
    }
  }

  unsubscribe(number: number): void {
    this.negotiator.cancel(subscriber, "cancelled", `s${number}`);
    const subscription = this.subscriptions.get(`s${number}`);
    if (subscription) this.subscriptions.end(subscription, "closed", "provider");
  }

  subscriberUp(): void {
    if (!this.daemons.has(subscriber)) this.#logIn(subscriber, "bob", "b0", {});
  }

  subscriberDown(): void {
    const session = this.#logOut(subscriber);
    if (session) this.negotiator.closed(session as never);
  }

  providerUp(): void {
    if (this.daemons.has(provider)) return;
    const ask = () => {
      if (!this.accepts) throw new IsthmusError("provider-refused");
      return { handshake: "BBBB" };
    };
    const boot = `p${this.#boots}`;
    this.#logIn(provider, "alice", boot, { ask });
    this.subscriptions.providerIsBack(provider, boot);
    this.negotiator.providerIsPresent(["alice/web"]);
  }

  providerDown(restarts: boolean): void {
    if (restarts) this.#boots++;
    this.#logOut(provider);
  }

  providerLeaves(): void {
    this.#logOut(provider);
    this.negotiator.providerIsGone(["alice/web"]);
  }

  withdraw(): void {
    this.directory.remove("alice/web");
    this.negotiator.serviceChanged("alice/web");
    for (const subscription of [...this.subscriptions.all()])
      this.subscriptions.end(subscription, "unknown-service", "both");
  }

  offer(): void {
    this.directory.put(listing);
  }

  istUp(): void {
    if (this.#istSession) return;
    const session = new FakeSession(this.scheduler, { key: ist, user: "", boot: "", peer: this.fakeIst.peer });
    this.#istSession = session;
    this.ists.opened(session as never);
    const { requests, events } = this.ists.handlers;
    const address = { key: ist, name: "ist", addresses: ["192.0.2.1:443"], secure: true };
    requests.declare(session as never, { address, dataPath: "userspace", room: { allocations: 100 } }, "d");
    const allocations = [...this.fakeIst.living].map(([pair, allocation]) => ({
      allocation,
      sides: pair.split(" ") as [string, string],
    }));
    events.hold(session as never, { allocations, last: true });
  }

  istDown(): void {
    const session = this.#istSession;
    if (!session) return;
    this.#istSession = undefined;
    session.end();
    this.ists.closed(session as never, this.clock);
  }

  advance(ms: number): void {
    this.clock += ms;
    vi.advanceTimersByTime(ms);
  }

  async settle(): Promise<void> {
    this.istUp();
    this.subscriberUp();
    for (let turn = 0; turn < 3; turn++) {
      await this.deliverAll();
      this.advance(HOUR_MS);
    }
    await this.deliverAll();
    this.#endUnjoined();
  }

  /** An allocation that no daemon was told of is joined by none, and ended by the IST itself after 30 s. */
  #endUnjoined(): void {
    for (const [pair, allocation] of this.fakeIst.living) {
      if (this.#told.has(allocation)) continue;
      this.fakeIst.living.delete(pair);
      this.ists.handlers.events.released(this.#istSession as never, { allocation, code: "not-joined" });
    }
  }

  /** Messages lead to further messages, a turn of the event loop later. */
  async deliverAll(): Promise<void> {
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      if (this.scheduler.count() === 0) return;
      await this.scheduler.waitNext(1);
    }
  }

  #logIn(key: string, user: string, boot: string, peer: Record<string, () => unknown>): void {
    const session = new FakeSession(this.scheduler, { key, user, boot, peer });
    session.onEvent = ({ allocation }) => {
      if (allocation) this.#told.add((allocation as { allocation: string }).allocation);
    };
    this.daemons.set(key, session);
  }

  #logOut(key: string): FakeSession | undefined {
    const session = this.daemons.get(key);
    session?.end();
    this.daemons.delete(key);
    return session;
  }
}

const anyAction: fc.Arbitrary<(world: World) => unknown> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.nat(3), fc.constantFrom(0, 10_000))
      .map(([request, waitMs]) => named(`subscribe ${request} ${waitMs}`, (w) => w.subscribe(request, waitMs))),
  },
  {
    weight: 8,
    arbitrary: fc.constant(named("message", async (w) => w.scheduler.count() > 0 && w.scheduler.waitNext(1))),
  },
  { weight: 2, arbitrary: fc.constantFrom(1, 3000, 9000).map((ms) => named(`advance ${ms}`, (w) => w.advance(ms))) },
  {
    weight: 6,
    arbitrary: fc.constantFrom(
      named("subscriber down", (w) => w.subscriberDown()),
      named("subscriber up", (w) => w.subscriberUp()),
      named("provider down", (w) => w.providerDown(false)),
      named("provider restarts", (w) => w.providerDown(true)),
      named("provider leaves", (w) => w.providerLeaves()),
      named("provider up", (w) => w.providerUp()),
      named("provider up", (w) => w.providerUp()),
      named("IST down", (w) => w.istDown()),
      named("IST up", (w) => w.istUp()),
      named("IST full", (w) => {
        w.fakeIst.isFull = !w.fakeIst.isFull;
      }),
      named("provider refuses", (w) => {
        w.accepts = !w.accepts;
      }),
      named("withdraw", (w) => w.withdraw()),
      named("offer", (w) => w.offer()),
      named("unsubscribe 0", (w) => w.unsubscribe(0)),
      named("unsubscribe 1", (w) => w.unsubscribe(1)),
    ),
  },
);

function named(name: string, action: (world: World) => unknown): (world: World) => unknown {
  return Object.assign((world: World) => action(world), { [fc.toStringMethod]: () => name });
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test("every negotiation ends told or failed, and no allocation outlives the subscriptions of its pair", async () => {
  const store = await openStore("memory:", { logger: silentLogger() });
  const nobody = { userChanged() {}, deviceChanged() {}, serviceChanged() {}, istChanged() {} };
  const profiles = new Profiles({ store, listener: nobody, logger: silentLogger() });
  const histories = fc.array(anyAction, { minLength: 5, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), histories, async (scheduler, history) => {
      const world = new World(scheduler, profiles);
      for (const action of history) await action(world);
      await world.settle();

      expect(world.negotiator.running).toBe(0);
      for (const { outcomes } of world.sent) {
        expect(outcomes.length).toBe(1);
        expect(outcomes[0]).not.toEqual({ failed: "internal" });
      }
      // All subscriptions are of the one pair.
      expect(world.pairs.size).toBe(world.subscriptions.size > 0 ? 1 : 0);
      if (world.subscriptions.size === 0) expect(world.fakeIst.living.size).toBe(0);
      expect(world.ists.allocations).toBe(world.fakeIst.living.size);
      for (const subscription of [...world.subscriptions.all()])
        world.subscriptions.end(subscription, "closed", "both");
      await world.settle();
      expect(world.pairs.size).toBe(0);
      expect(world.ists.allocations).toBe(0);
      expect(world.fakeIst.living.size).toBe(0);
    }),
    { numRuns: 4000 },
  );
  await store.close();
});

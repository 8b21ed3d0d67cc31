import type { Logger } from "@isthmus/service";
import type { PortEntry } from "./binding.ts";
import { nameOf, type PortKey } from "./ideal-state.ts";
import { type AskProbe, type Finding, findReach, type Reach, type ReachReason, reachOf } from "./reach.ts";

/** A program that has its port seldom listens in the same moment; and many a port is gone again by then. */
const SETTLE_MS = 2000;
/** The ISB lets a device ask ten times at once and six times a minute by default: some are left for the user. */
const BURST = 5;
const PACE_MS = 10_000;
/** Until the gateway is asked again for its outer address; that it changes is mostly heard before. */
const ADDRESS_MS = 5 * 60_000;

const MINUTE_MS = 60_000;
const LONGEST_MS = 30 * MINUTE_MS;
/** When it is looked again; with `doubles`, that time doubles as long as nothing changes, up to half an hour. */
const AGAIN: Record<ReachReason, { afterMs: number; doubles?: true }> = {
  answered: { afterMs: LONGEST_MS },
  "another-nat": { afterMs: 10 * MINUTE_MS },
  // It may listen later than it has bound.
  refused: { afterMs: 15_000, doubles: true },
  "no-answer": { afterMs: 5 * MINUTE_MS, doubles: true },
  "not-yet": { afterMs: SETTLE_MS },
  udp: { afterMs: 10 * MINUTE_MS },
  "no-address": { afterMs: MINUTE_MS },
  ipv6: { afterMs: 10 * MINUTE_MS },
  "isb-inside": { afterMs: 10 * MINUTE_MS },
  off: { afterMs: LONGEST_MS },
  // Asking a socket that is not there costs nothing.
  "no-daemon": { afterMs: 5000 },
  "no-isb": { afterMs: 5000 },
  "isb-cannot": { afterMs: LONGEST_MS },
  "rate-limited": { afterMs: MINUTE_MS },
  failed: { afterMs: MINUTE_MS, doubles: true },
};

interface Known {
  reach: Reach;
  /** Of the program that had the port then. */
  socket: string | undefined;
  /** Since when it is so; undefined before the first look. */
  since: Date | undefined;
  dueMs: number;
  /** Between this look and the next. */
  waitMs: number;
}

export interface ReachCheckOptions {
  entries: () => readonly PortEntry[];
  /** The gateway's own outer address, as it says. */
  externalAddress: () => Promise<string | undefined>;
  /** Undefined where nobody is to be asked. */
  ask: ((request: Parameters<AskProbe>[0], signal: AbortSignal) => ReturnType<AskProbe>) | undefined;
  /** A port was looked at. */
  onLook?: (reason: ReachReason) => void;
  logger: Logger;
}

/**
 * Has mapped ports looked at from outside, one after the other and now and then, and remembers what was found. Nobody waits
 * for it: without anybody to ask it is unknown, and all else is as ever.
 */
export class ReachCheck {
  readonly #options: ReachCheckOptions;
  readonly #known = new Map<string, Known>();
  readonly #stopping = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #timerMs = Number.POSITIVE_INFINITY;
  #running: Promise<void> | undefined;
  /** Grows with each doubt: what was asked before it does not count. */
  #era = 0;
  #address: { value: string; untilMs: number } | undefined;
  /** What was found for all ports, until when that holds. */
  #forAll: { reach: Reach; untilMs: number } | undefined;
  #saidForAll = "";
  /** By when the dials so far would have been, one at each pace. */
  #pacedMs = Number.NEGATIVE_INFINITY;

  constructor(options: ReachCheckOptions) {
    this.#options = options;
  }

  /** Ports may have been mapped since. */
  changed(): void {
    this.#wake(performance.now() + SETTLE_MS);
  }

  /** The gateway is another one, or has another address: what was found does not count any more. */
  doubt(): void {
    this.#era++;
    this.#address = undefined;
    this.#forAll = undefined;
    this.#known.clear();
    this.changed();
  }

  /** Of a port that is mapped. */
  of(key: PortKey): Reach & { since: Date | undefined } {
    const known = this.#known.get(nameOf(key));
    if (known) return { ...known.reach, since: known.since };
    return { ...reachOf(this.#options.ask ? "not-yet" : "off"), since: undefined };
  }

  /** Settles when no question is under way. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  #wake(atMs: number): void {
    if (!this.#options.ask || this.#stopping.signal.aborted || this.#running || atMs >= this.#timerMs) return;
    clearTimeout(this.#timer);
    this.#timerMs = atMs;
    this.#timer = setTimeout(() => this.#turn(), Math.max(0, atMs - performance.now())).unref();
  }

  #turn(): void {
    this.#timerMs = Number.POSITIVE_INFINITY;
    this.#running = this.#look().finally(() => {
      this.#running = undefined;
      let nextMs = Number.POSITIVE_INFINITY;
      for (const { dueMs } of this.#known.values()) nextMs = Math.min(nextMs, dueMs);
      if (nextMs < Number.POSITIVE_INFINITY) this.#wake(nextMs);
      // What has come meanwhile has woken nobody.
      if (this.#mapped().some((entry) => this.#isDue(nameOf(entry), entry))) this.changed();
    });
  }

  #mapped(): PortEntry[] {
    return this.#options.entries().filter(({ state }) => state === "mapped");
  }

  /** When the next dial may be. */
  get #freeMs(): number {
    return this.#pacedMs - (BURST - 1) * PACE_MS;
  }

  async #look(): Promise<void> {
    const mapped = new Map(this.#mapped().map((entry) => [nameOf(entry), entry]));
    for (const name of [...this.#known.keys()]) if (!mapped.has(name)) this.#known.delete(name);
    const due = [...mapped].filter(([name, entry]) => this.#isDue(name, entry));
    if (due.length === 0) return;
    const era = this.#era;
    const address = await this.#externalAddress();
    for (const [name, entry] of due) {
      if (this.#forAll && this.#forAll.untilMs > performance.now()) {
        this.#learn(name, entry, { reach: this.#forAll.reach, isForAll: true });
      } else if (entry.protocol === "tcp" && this.#freeMs > performance.now()) {
        this.#postpone(name, entry);
      } else {
        const finding = await this.#ask(entry, address);
        if (this.#era !== era || this.#stopping.signal.aborted) return;
        this.#take(entry, finding);
        this.#learn(name, entry, finding);
      }
    }
  }

  #isDue(name: string, entry: PortEntry): boolean {
    const known = this.#known.get(name);
    return known === undefined || known.dueMs <= performance.now() || known.socket !== socketOf(entry);
  }

  async #externalAddress(): Promise<string | undefined> {
    if (this.#address && this.#address.untilMs > performance.now()) return this.#address.value;
    const era = this.#era;
    const value = await this.#options.externalAddress().catch(() => undefined);
    if (value !== undefined && era === this.#era) this.#address = { value, untilMs: performance.now() + ADDRESS_MS };
    return value;
  }

  #ask({ protocol, port }: PortEntry, address: string | undefined): Promise<Finding> {
    const { ask } = this.#options;
    return findReach({ protocol, port, address }, (request) => ask!(request, this.#stopping.signal));
  }

  #take({ protocol }: PortEntry, { reach, isForAll }: Finding): void {
    this.#options.onLook?.(reach.reason);
    const now = performance.now();
    if (protocol === "tcp" && !isForAll) this.#pacedMs = Math.max(this.#pacedMs, now) + PACE_MS;
    this.#forAll = isForAll ? { reach, untilMs: now + AGAIN[reach.reason].afterMs } : undefined;
  }

  #learn(name: string, entry: PortEntry, { reach, isForAll }: Finding): void {
    const { afterMs, doubles } = AGAIN[reach.reason];
    const known = this.#known.get(name);
    if (reach.reason === "rate-limited" && known?.since) {
      // What is known is better than nothing.
      this.#known.set(name, { ...known, dueMs: performance.now() + afterMs });
      return;
    }
    const isSame = known?.reach.message === reach.message && known.socket === socketOf(entry);
    const waitMs = doubles && isSame ? Math.min(known.waitMs * 2, LONGEST_MS) : afterMs;
    const dueMs = isForAll && this.#forAll ? this.#forAll.untilMs : performance.now() + waitMs;
    const since = isSame ? known.since : new Date();
    this.#known.set(name, { reach, socket: socketOf(entry), since, dueMs, waitMs });
    if (isForAll) {
      this.#sayForAll(reach);
      return;
    }
    this.#saidForAll = "";
    if (isSame) return;
    const { protocol, port } = entry;
    const { state, reason, message } = reach;
    this.#options.logger.info({ protocol, port, reachable: state, reason }, `seen from outside: ${message}`);
  }

  /** As many dials as may be have been made: the next may be in a while. */
  #postpone(name: string, entry: PortEntry): void {
    const { reach, since, waitMs } = this.#known.get(name) ?? {
      reach: reachOf("not-yet"),
      since: undefined,
      waitMs: SETTLE_MS,
    };
    this.#known.set(name, { reach, socket: socketOf(entry), since, dueMs: this.#freeMs, waitMs });
  }

  /** Once, and not for each port. */
  #sayForAll({ state, reason, message }: Reach): void {
    if (message === this.#saidForAll) return;
    this.#saidForAll = message;
    const level = state === "no" ? "warn" : "info";
    this.#options.logger[level]({ reachable: state, reason }, `mapped ports, seen from outside: ${message}`);
  }
}

function socketOf({ owners: [first] }: PortEntry): string | undefined {
  return first?.socket;
}

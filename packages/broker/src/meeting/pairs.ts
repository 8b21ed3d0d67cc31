import { type AllocationLimits, type AllocationOffer, type Code, IsthmusError, sidesOf } from "@isthmus/protocol";
import type { Allocated, IstRegistry } from "../ist/registry.ts";

/** ISTs that are tried for one allocation. */
const MOST_TRIES = 3;
/** An IST that one of the two cannot reach is not offered to either for this long: it needs one that both reach. */
const AVOID_MS = 60_000;

/** Two devices that have something to do with each other: negotiations, subscriptions, and one allocation for all. */
export interface Pair {
  readonly id: string;
  readonly sides: [string, string];
  /** Negotiations and subscriptions; when none is left the allocation is released. */
  readonly holders: Set<object>;
  /** How many of the holders are subscriptions. */
  subscriptions: number;
  current: Allocated | undefined;
  underWay: Promise<Allocated> | undefined;
  /** ISTs to be avoided, until when. */
  avoid: Map<string, number> | undefined;
}

/** The allocations of all pairs of devices. One request at a time asks for a pair, so that crossed ones meet in one. */
export class Pairs {
  readonly #ists: IstRegistry;
  readonly #limits: AllocationLimits;
  readonly #now: () => number;
  readonly #pairs = new Map<string, Pair>();

  constructor(options: { ists: IstRegistry; limits: AllocationLimits; now: () => number }) {
    this.#ists = options.ists;
    this.#limits = options.limits;
    this.#now = options.now;
  }

  get size(): number {
    return this.#pairs.size;
  }

  /** Whether a living subscription joins the two devices. */
  areJoined(keyA: string, keyB: string): boolean {
    return (this.#pairs.get(sidesOf(keyA, keyB).join(" "))?.subscriptions ?? 0) > 0;
  }

  /** The pair of two devices, to be held at once: one that nobody holds has no end. */
  of(keyA: string, keyB: string): Pair {
    const sides = sidesOf(keyA, keyB);
    const id = sides.join(" ");
    let pair = this.#pairs.get(id);
    if (!pair) {
      pair = {
        id,
        sides,
        holders: new Set(),
        subscriptions: 0,
        current: undefined,
        underWay: undefined,
        avoid: undefined,
      };
      this.#pairs.set(id, pair);
    }
    return pair;
  }

  hold(pair: Pair, holder: object): void {
    pair.holders.add(holder);
  }

  /** The allocation ends with the last holder. */
  drop(pair: Pair, holder: object, code: Code = "released"): void {
    if (!pair.holders.delete(holder) || pair.holders.size > 0) return;
    this.#pairs.delete(pair.id);
    this.#ists.releaseAll(pair.id, code);
  }

  /** An IST no longer holds an allocation. */
  lost(id: string, ist: string, allocation: string): void {
    const pair = this.#pairs.get(id);
    if (pair?.current?.ist === ist && pair.current.allocation === allocation) pair.current = undefined;
  }

  /**
   * The living allocation of a pair, or a new one.
   * @param options.avoid ISTs that a side cannot reach
   * @param options.confirm the IST is asked even if its answer is remembered: a side doubts it
   * @throws IsthmusError `no-ist`, or why the last IST that was tried refused
   */
  async obtain(pair: Pair, options: { avoid?: string[]; confirm?: boolean } = {}): Promise<Allocated> {
    const now = this.#now();
    for (const ist of options.avoid ?? []) {
      if (!this.#ists.knows(ist)) continue;
      pair.avoid ??= new Map();
      pair.avoid.set(ist, now + AVOID_MS);
    }
    if (pair.underWay) {
      const allocated = await pair.underWay;
      if (!this.#avoided(pair).has(allocated.ist)) return allocated;
      return this.obtain(pair, { confirm: true });
    }
    const avoided = this.#avoided(pair);
    const { current } = pair;
    if (current && !options.confirm && !avoided.has(current.ist) && this.#ists.isReady(current.ist)) return current;
    const asking = this.#ask(pair, avoided).finally(() => {
      pair.underWay = undefined;
    });
    pair.underWay = asking;
    return asking;
  }

  /** What one side of a pair is handed. */
  offer(pair: Pair, key: string, allocated: Allocated): AllocationOffer | undefined {
    const ist = this.#ists.address(allocated.ist);
    if (!ist) return undefined;
    const side = pair.sides[0] === key ? 0 : 1;
    const { ticket, token } = allocated.shares[side];
    return { ist, allocation: allocated.allocation, side, ticket, token };
  }

  async #ask(pair: Pair, avoided: ReadonlySet<string>): Promise<Allocated> {
    const avoid = new Set(avoided);
    let failure: IsthmusError | undefined;
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      // Where the pair has an allocation, that one is meant: the IST answers with it.
      const ist = this.#ists.holderOf(pair.id, avoid) ?? this.#ists.choose(avoid);
      if (ist === undefined) break;
      try {
        const allocated = await this.#ists.allocate(ist, pair.sides, this.#limits);
        this.#keep(pair, allocated);
        return allocated;
      } catch (error) {
        if (!(error instanceof IsthmusError)) throw error;
        failure = error;
        avoid.add(ist);
      }
    }
    throw failure ?? new IsthmusError("no-ist");
  }

  #keep(pair: Pair, allocated: Allocated): void {
    // A pair that was dropped meanwhile and is held again is another object, and wants the allocation.
    const living = this.#pairs.get(pair.id);
    if (living) living.current = allocated;
    else this.#ists.releaseAll(pair.id, "released");
  }

  #avoided(pair: Pair): ReadonlySet<string> {
    const now = this.#now();
    for (const [ist, until] of pair.avoid ?? []) if (until <= now) pair.avoid!.delete(ist);
    return new Set(pair.avoid?.keys());
  }
}

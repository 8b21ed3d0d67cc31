/** An allocation of a pair of devices at an IST. */
export interface Holding {
  ist: string;
  allocation: string;
}

const NONE: readonly Holding[] = [];

/** Which ISTs hold which allocations, for which pair: learned from their answers and from what they report at login. */
export class Holdings {
  readonly #lost: (pair: string, ist: string, allocation: string) => void;
  /** Per IST, the pair of each allocation. */
  readonly #byIst = new Map<string, Map<string, string>>();
  readonly #byPair = new Map<string, Holding[]>();
  /** Allocations of an IST that a report under way has named, or that it made since. */
  readonly #reported = new Map<string, Set<string>>();
  /** Allocations that are over, of which their IST has not said that it knows. */
  readonly #owed = new Map<string, Set<string>>();

  constructor(lost: (pair: string, ist: string, allocation: string) => void) {
    this.#lost = lost;
  }

  get size(): number {
    let size = 0;
    for (const held of this.#byIst.values()) size += held.size;
    return size;
  }

  of(pair: string): readonly Holding[] {
    return this.#byPair.get(pair) ?? NONE;
  }

  /** @returns whether it was not known */
  add(ist: string, allocation: string, pair: string): boolean {
    this.#reported.get(ist)?.add(allocation);
    // A pair that is together again wants what it was to lose.
    this.#owed.get(ist)?.delete(allocation);
    return this.#insert(ist, allocation, pair);
  }

  remove(ist: string, allocation: string): void {
    const pair = this.#byIst.get(ist)?.get(allocation);
    if (pair === undefined) return;
    this.#byIst.get(ist)!.delete(allocation);
    const rest = this.#byPair.get(pair)!.filter((holding) => holding.ist !== ist || holding.allocation !== allocation);
    if (rest.length === 0) this.#byPair.delete(pair);
    else this.#byPair.set(pair, rest);
    this.#lost(pair, ist, allocation);
  }

  owe(ist: string, allocation: string): void {
    const owed = this.#owed.get(ist);
    if (owed) owed.add(allocation);
    else this.#owed.set(ist, new Set([allocation]));
  }

  /** The IST knows that it is over. */
  paid(ist: string, allocation: string): void {
    this.#owed.get(ist)?.delete(allocation);
  }

  beginReport(ist: string): void {
    this.#reported.set(ist, new Set());
  }

  report(ist: string, allocation: string, pair: string): void {
    this.#reported.get(ist)?.add(allocation);
    this.#insert(ist, allocation, pair);
  }

  /** What the report did not name is lost. @returns allocations that the IST holds and that it is to release */
  endReport(ist: string): string[] {
    const reported = this.#reported.get(ist);
    if (!reported) return [];
    this.#reported.delete(ist);
    for (const allocation of [...(this.#byIst.get(ist)?.keys() ?? [])]) {
      if (!reported.has(allocation)) this.remove(ist, allocation);
    }
    const owed = [...(this.#owed.get(ist) ?? [])].filter((allocation) => reported.has(allocation));
    this.#owed.delete(ist);
    return owed;
  }

  forget(ist: string): void {
    this.#reported.delete(ist);
    this.#owed.delete(ist);
    for (const allocation of [...(this.#byIst.get(ist)?.keys() ?? [])]) this.remove(ist, allocation);
    this.#byIst.delete(ist);
  }

  #insert(ist: string, allocation: string, pair: string): boolean {
    const held = this.#byIst.get(ist) ?? new Map<string, string>();
    this.#byIst.set(ist, held);
    if (held.has(allocation)) return false;
    held.set(allocation, pair);
    this.#byPair.set(pair, [...this.of(pair), { ist, allocation }]);
    return true;
  }
}

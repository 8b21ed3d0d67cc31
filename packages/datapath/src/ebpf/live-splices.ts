/** A splice in the maps, whose events were read. */
export interface LiveSplice {
  readonly alloc: bigint;
  readonly isOver: boolean;
  /** How often its SYN-ACKs were repeated. */
  readonly synAcks: number;
}

interface OfAllocation {
  readonly ids: Set<bigint>;
  over: number;
}

/** Splices by id, and those of each allocation: neither is looked for among all, of which there may be very many. */
export class LiveSplices {
  readonly #byId = new Map<bigint, LiveSplice>();
  readonly #byAllocation = new Map<bigint, OfAllocation>();

  get(id: bigint): LiveSplice | undefined {
    return this.#byId.get(id);
  }

  set(id: bigint, splice: LiveSplice): void {
    this.delete(id);
    this.#byId.set(id, splice);
    const all = this.#byAllocation.get(splice.alloc) ?? { ids: new Set(), over: 0 };
    this.#byAllocation.set(splice.alloc, all);
    all.ids.add(id);
    if (splice.isOver) all.over++;
  }

  delete(id: bigint): void {
    const splice = this.#byId.get(id);
    if (!splice) return;
    this.#byId.delete(id);
    const all = this.#byAllocation.get(splice.alloc)!;
    all.ids.delete(id);
    if (splice.isOver) all.over--;
    if (all.ids.size === 0) this.#byAllocation.delete(splice.alloc);
  }

  /** Ids of all, as they are now. */
  ids(): Set<bigint> {
    return new Set(this.#byId.keys());
  }

  /** Ids of an allocation's splices, as they are now. */
  of(alloc: bigint): bigint[] {
    return [...(this.#byAllocation.get(alloc)?.ids ?? [])];
  }

  /** Forgets all of an allocation. @returns their ids */
  take(alloc: bigint): bigint[] {
    const ids = this.of(alloc);
    this.#byAllocation.delete(alloc);
    for (const id of ids) this.#byId.delete(id);
    return ids;
  }

  /** How many of an allocation's splices are over. */
  over(alloc: bigint): number {
    return this.#byAllocation.get(alloc)?.over ?? 0;
  }

  clear(): void {
    this.#byId.clear();
    this.#byAllocation.clear();
  }
}

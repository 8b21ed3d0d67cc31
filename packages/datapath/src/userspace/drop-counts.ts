import type { PacketDrop } from "../data-path.ts";

type Counts = Partial<Record<PacketDrop, number>>;

/** Who counts datagrams that it did not forward itself. */
interface Counted {
  readonly dropped: Readonly<Counts>;
}

/** Datagrams that were not forwarded, by reason. */
export class DropCounts {
  readonly #counts: Counts = {};
  readonly #counted = new Set<Counted>();

  get byReason(): Counts {
    const sums = { ...this.#counts };
    for (const { dropped } of this.#counted) add(sums, dropped);
    return sums;
  }

  count(reason: PacketDrop): void {
    add(this.#counts, { [reason]: 1 });
  }

  /** What counts itself is there, */
  enter(counted: Counted): void {
    this.#counted.add(counted);
  }

  /** and is no more: it counts nothing any longer. */
  leave(counted: Counted): void {
    if (this.#counted.delete(counted)) add(this.#counts, counted.dropped);
  }
}

function add(sums: Counts, more: Readonly<Counts>): void {
  for (const [reason, count] of Object.entries(more) as [PacketDrop, number][]) {
    if (count > 0) sums[reason] = (sums[reason] ?? 0) + count;
  }
}

import { type Cell, LIMITS, type Side, type Transport } from "@isthmus/protocol";

/** Cells beyond the first that nobody used for this long are given back. */
const IDLE_CELL_MS = 30_000;
/**
 * An IST knows a pair of UDP legs until nothing has moved on it for this long, 60 s by default: it has no other way to
 * learn of its end. Legs from elsewhere are strangers there meanwhile.
 */
const UDP_PAIR_MS = 65_000;
/** Half of an allocation's cells are for each side's opens. */
const MOST_OWN_CELLS = LIMITS.cellsPerAllocation / 2;

interface OwnCell {
  busy: { tcp: boolean; udp: boolean };
  /** Not before this time: a leg of an attempt that failed may still wait there, or a pair that is no more. */
  freeAt: { tcp: number; udp: number };
  usedAt: number;
}

/**
 * The cells of one allocation as one side uses them: one open per cell at a time, and none soon after a failure, since
 * the peer's leg may still wait there and would be mistaken for the next one's. A UDP path leaves its cell to nobody for
 * a while, however it ended.
 */
export class CellPool {
  readonly #side: Side;
  readonly #halfMs: number;
  #ports = new Map<number, number>();
  readonly #own = new Map<number, OwnCell>();

  /** @param halfMs how long the IST keeps an unpaired leg */
  constructor(side: Side, halfMs: number) {
    this.#side = side;
    this.#halfMs = halfMs;
  }

  /** The cells as the IST says they are: this side's port of each. */
  update(cells: readonly Cell[]): void {
    this.#ports = new Map(cells.map(({ cell, port }) => [cell, port]));
    for (const cell of this.#own.keys()) if (!this.#ports.has(cell)) this.#own.delete(cell);
    for (const cell of this.#ports.keys()) {
      if (cell % 2 === this.#side && !this.#own.has(cell)) {
        this.#own.set(cell, { busy: { tcp: false, udp: false }, freeAt: { tcp: 0, udp: 0 }, usedAt: 0 });
      }
    }
  }

  /** This side's port of a cell, whoever opens there. */
  portOf(cell: number): number | undefined {
    return this.#ports.get(cell);
  }

  get numbers(): number[] {
    return [...this.#ports.keys()];
  }

  /** The free cell that was not used for longest: source ports in TIME_WAIT are spread over all cells. */
  take(proto: Transport, now: number): number | undefined {
    let best: number | undefined;
    let bestUsedAt = Number.POSITIVE_INFINITY;
    for (const [cell, { busy, freeAt, usedAt }] of this.#own) {
      if (busy[proto] || now < freeAt[proto] || usedAt >= bestUsedAt) continue;
      best = cell;
      bestUsedAt = usedAt;
    }
    if (best === undefined) return undefined;
    const taken = this.#own.get(best)!;
    taken.busy[proto] = true;
    taken.usedAt = now;
    return best;
  }

  /** @param failed the legs did not meet: the peer's may be there still */
  give(cell: number, proto: Transport, now: number, failed: boolean): void {
    const own = this.#own.get(cell);
    if (!own) return;
    own.busy[proto] = false;
    own.usedAt = now;
    if (proto === "udp") own.freeAt.udp = now + UDP_PAIR_MS;
    else if (failed) own.freeAt.tcp = now + this.#halfMs;
  }

  /** How many further cells to ask the IST for when {@link take} found none: as many as there are. */
  get wanted(): number {
    return Math.min(Math.max(1, this.#own.size), MOST_OWN_CELLS - this.#own.size);
  }

  /** Own cells that nobody needs and that may be given back, always leaving one. None of them is taken any more. */
  retireIdle(now: number): number[] {
    const idle = [...this.#own]
      .filter(
        ([, { busy, freeAt, usedAt }]) => !busy.tcp && !busy.udp && now >= freeAt.tcp && now - usedAt > IDLE_CELL_MS,
      )
      .slice(0, Math.max(0, this.#own.size - 1))
      .map(([cell]) => cell);
    for (const cell of idle) this.#own.delete(cell);
    return idle;
  }
}

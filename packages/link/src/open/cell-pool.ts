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

/**
 * The ends of a connection whose ports were agreed on may not use them again before they are out of TIME_WAIT (60 s on
 * Linux, and at the IST).
 */
const AGREED_REST_MS = 65_000;

type CellKind = "passive" | "agreed" | "learned";

function kindOf({ port, pure }: Cell): CellKind {
  if (!pure) return "passive";
  return port !== 0 && pure.source !== undefined ? "agreed" : "learned";
}

interface OwnCell {
  kind: CellKind;
  busy: { tcp: boolean; udp: boolean };
  /** Not before this time: a leg of an attempt that failed may still wait there, or a pair that is no more. */
  freeAt: { tcp: number; udp: number };
  usedAt: number;
}

/**
 * The cells of one allocation as one side uses them: one open per cell at a time, and none soon after a failure, since
 * the peer's leg may still wait there and would be mistaken for the next one's. A UDP path leaves its cell to nobody for
 * a while, however it ended, and so does a connection between ports that were agreed on.
 */
export class CellPool {
  readonly #side: Side;
  readonly #halfMs: number;
  #cells = new Map<number, Cell>();
  readonly #own = new Map<number, OwnCell>();

  /** @param halfMs how long the IST keeps an unpaired leg */
  constructor(side: Side, halfMs: number) {
    this.#side = side;
    this.#halfMs = halfMs;
  }

  /** The cells as the IST says they are. */
  update(cells: readonly Cell[]): void {
    this.#cells = new Map(cells.map((cell) => [cell.cell, cell]));
    for (const [number, { kind }] of this.#own) {
      const cell = this.#cells.get(number);
      if (!cell || kindOf(cell) !== kind) this.#own.delete(number);
    }
    for (const [number, cell] of this.#cells) {
      if (number % 2 !== this.#side || this.#own.has(number)) continue;
      const unused = { busy: { tcp: false, udp: false }, freeAt: { tcp: 0, udp: 0 }, usedAt: 0 };
      this.#own.set(number, { kind: kindOf(cell), ...unused });
    }
  }

  /** A cell as this side sees it, whoever opens there. */
  get(cell: number): Cell | undefined {
    return this.#cells.get(cell);
  }

  get numbers(): number[] {
    return [...this.#cells.keys()];
  }

  /** Whether some of the own cells are pure. */
  get hasPure(): boolean {
    return this.#sizeOf(true) > 0;
  }

  /** A connection that met there holds the cell until it ends. */
  isHeldByStream(cell: number): boolean {
    return this.#own.get(cell)?.kind === "agreed";
  }

  /**
   * The free cell that was not used for longest: source ports in TIME_WAIT are spread over all cells. Of pure ones, those
   * whose ports are agreed on come first: they cost no message.
   */
  take(proto: Transport, now: number, pure = false): number | undefined {
    const free = [...this.#own].filter(
      ([, { kind, busy, freeAt }]) => (kind !== "passive") === pure && !busy[proto] && now >= freeAt[proto],
    );
    const agreed = free.filter(([, { kind }]) => kind === "agreed");
    let best: [cell: number, own: OwnCell] | undefined;
    for (const one of agreed.length > 0 ? agreed : free) if (!best || one[1].usedAt < best[1].usedAt) best = one;
    if (!best) return undefined;
    const [cell, taken] = best;
    taken.busy[proto] = true;
    taken.usedAt = now;
    return cell;
  }

  /** @param failed the legs did not meet: the peer's may be there still */
  give(cell: number, proto: Transport, now: number, failed: boolean): void {
    const own = this.#own.get(cell);
    if (!own) return;
    own.busy[proto] = false;
    own.usedAt = now;
    if (proto === "udp") own.freeAt.udp = now + UDP_PAIR_MS;
    else if (own.kind === "agreed") own.freeAt.tcp = now + AGREED_REST_MS;
    else if (failed) own.freeAt.tcp = now + this.#halfMs;
  }

  /** How many further cells to ask the IST for when {@link take} found none: as many as there are. */
  wanted(pure: boolean): number {
    return Math.min(Math.max(1, this.#sizeOf(pure)), MOST_OWN_CELLS - this.#own.size);
  }

  /**
   * Own cells that nobody needs and that may be given back, always leaving one of each kind; those of agreed ports are
   * few, and stay. None of them is taken any more.
   */
  retireIdle(now: number): number[] {
    const idle = (["passive", "learned"] as const).flatMap((kind) => this.#idleOf(kind, now));
    for (const cell of idle) this.#own.delete(cell);
    return idle;
  }

  #idleOf(kind: CellKind, now: number): number[] {
    const all = [...this.#own].filter(([, own]) => own.kind === kind);
    return all
      .filter(
        ([, { busy, freeAt, usedAt }]) => !busy.tcp && !busy.udp && now >= freeAt.tcp && now - usedAt > IDLE_CELL_MS,
      )
      .slice(0, Math.max(0, all.length - 1))
      .map(([cell]) => cell);
  }

  #sizeOf(pure: boolean): number {
    let size = 0;
    for (const { kind } of this.#own.values()) if ((kind !== "passive") === pure) size++;
    return size;
  }
}

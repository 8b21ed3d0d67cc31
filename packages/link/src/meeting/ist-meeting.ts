import {
  type AllocationLimits,
  type AllocationOffer,
  type Cell,
  encodeLegHeader,
  type HostPort,
  NO_ID,
  parseHostPort,
  type Rendezvous,
} from "@isthmus/protocol";
import { CellPool } from "../open/cell-pool.ts";
import type { LegOutcome } from "../open/stream.ts";

/** Legs of this many attempts try cells, the following ones the stream endpoint, which pairs exactly. */
const CELL_ATTEMPTS = 2;
/** Attempts in a row that failed at cells, as where a firewall passes the stream endpoint's port alone, ... */
const CELL_FAILURES = 2;
/** ... after which opens go to the stream endpoint at once, for so long at first, and doubling. */
const AVOID_CELLS_FIRST_MS = 30_000;
const AVOID_CELLS_MOST_MS = 600_000;

/** Asks the IST for more cells, or gives some back; a failure is not an error, only fewer cells. */
export interface CellRequests {
  grow(cells: number): Promise<void>;
  shrink(cells: number[]): Promise<void>;
}

/**
 * One allocation as a place to meet. Before this side has joined there is the stream endpoint alone; afterwards there
 * are cells, as many as are needed.
 */
export class IstMeeting {
  readonly offer: AllocationOffer;
  readonly #now: () => number;
  /** Outlives the session: cells that are in use stay so. */
  #pool: CellPool | undefined;
  #joined = false;
  #requests: CellRequests | undefined;
  #growing = false;
  #cellFailures = 0;
  #avoidMs = AVOID_CELLS_FIRST_MS;
  #avoidCellsUntil = Number.NEGATIVE_INFINITY;
  /** Where the session to the IST stands or stood last: the host that was reached. */
  #reached: HostPort | undefined;
  peerJoined = false;

  constructor(offer: AllocationOffer, now: () => number) {
    this.offer = offer;
    this.#now = now;
  }

  get joined(): boolean {
    return this.#joined;
  }

  get cells(): number[] {
    return this.#joined ? this.#pool!.numbers : [];
  }

  /** The session to the IST is up and this side has joined. */
  setJoined(reached: HostPort, cells: readonly Cell[], limits: AllocationLimits, requests: CellRequests): void {
    this.#reached = reached;
    this.#requests = requests;
    this.#pool ??= new CellPool(this.offer.side, limits.halfMs);
    this.#pool.update(cells);
    this.#joined = true;
    // Perhaps from another network than before.
    this.#trustCells();
  }

  /** The session is down: cells may be gone or known to others alone, so only the stream endpoint is used. */
  setLeft(): void {
    this.#joined = false;
    this.#requests = undefined;
    this.peerJoined = false;
  }

  updateCells(cells: readonly Cell[]): void {
    this.#pool?.update(cells);
  }

  /** Cells are left out for a while, since legs did not meet there. */
  get avoidsCells(): boolean {
    return this.#now() < this.#avoidCellsUntil;
  }

  /** Where the legs of an attempt meet. A cell that is chosen is this open's until {@link settled}. */
  choose(attempt: number): Rendezvous {
    const allocation = this.offer.allocation;
    if (this.#joined && this.peerJoined && attempt < CELL_ATTEMPTS && !this.avoidsCells) {
      const cell = this.#pool!.take("tcp", this.#now());
      if (cell !== undefined) return { at: "cell", allocation, cell, mode: "passive" };
      this.#grow();
    }
    return { at: "stream", allocation };
  }

  /** A cell for a UDP path, which keeps it for life. */
  chooseUdp(): Rendezvous | undefined {
    if (!this.#joined || !this.peerJoined) return undefined;
    const cell = this.#pool!.take("udp", this.#now());
    if (cell !== undefined) return { at: "cell", allocation: this.offer.allocation, cell, mode: "passive" };
    this.#grow();
    return undefined;
  }

  settled(rendezvous: Rendezvous, proto: "tcp" | "udp", outcome: LegOutcome): void {
    if (rendezvous.at !== "cell") return;
    this.#pool?.give(rendezvous.cell, proto, this.#now(), outcome !== "joined");
    if (proto === "udp") return;
    if (outcome === "joined") this.#trustCells();
    else if (outcome === "failed") this.#doubtCells();
  }

  /** Gives idle cells back; to be called now and then. */
  tidy(): void {
    if (!this.#requests) return;
    const idle = this.#pool!.retireIdle(this.#now());
    if (idle.length > 0) void this.#requests.shrink(idle);
  }

  /** Address of this side's port of a cell; nothing when the cell is not known (any more). */
  cellAddress(cell: number): HostPort | undefined {
    const port = this.#joined ? this.#pool!.portOf(cell) : undefined;
    return port === undefined ? undefined : { host: this.#reached!.host, port };
  }

  /** The stream endpoint: where the session stands, else the IST's addresses in turn, the one that worked last first. */
  streamAddress(attempt: number): HostPort {
    if (this.#joined) return this.#reached!;
    const addresses = this.offer.ist.addresses.map((address) => parseHostPort(address)!);
    const turn = this.#reached ? [this.#reached, ...addresses] : addresses;
    return turn[attempt % turn.length]!;
  }

  legHeader(leg: { generation: string; openId: number; attempt: number }): Buffer {
    const { allocation, side, token } = this.offer;
    return encodeLegHeader({ kind: "leg", side, allocation, ...leg }, Buffer.from(token, "base64url"));
  }

  alsoHeader(): Buffer {
    const { allocation, side, token } = this.offer;
    const header = { kind: "also", side, allocation, generation: NO_ID, openId: 0, attempt: 0 } as const;
    return encodeLegHeader(header, Buffer.from(token, "base64url"));
  }

  #trustCells(): void {
    this.#cellFailures = 0;
    this.#avoidMs = AVOID_CELLS_FIRST_MS;
    this.#avoidCellsUntil = Number.NEGATIVE_INFINITY;
  }

  #doubtCells(): void {
    // What was under way when cells were given up says nothing new.
    if (this.avoidsCells || ++this.#cellFailures < CELL_FAILURES) return;
    this.#cellFailures = 0;
    this.#avoidCellsUntil = this.#now() + this.#avoidMs;
    this.#avoidMs = Math.min(this.#avoidMs * 2, AVOID_CELLS_MOST_MS);
  }

  #grow(): void {
    const wanted = this.#pool!.wanted;
    if (this.#growing || wanted === 0 || !this.#requests) return;
    this.#growing = true;
    void this.#requests.grow(wanted).finally(() => {
      this.#growing = false;
    });
  }
}

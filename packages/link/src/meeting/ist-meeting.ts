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
import { Avoidance } from "./avoidance.ts";
import { HalfPorts, type OnHalf } from "./half-ports.ts";

/** Legs of this many attempts try cells, the following ones the stream endpoint, which pairs exactly. */
const CELL_ATTEMPTS = 2;

/** Asks the IST for more cells, or gives some back; a failure is not an error, only fewer cells. */
export interface CellRequests {
  grow(cells: number, pure: boolean): Promise<void>;
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
  /** Of cells at all: a firewall may pass the stream endpoint's port alone. */
  readonly #cellAvoidance = new Avoidance();
  /** Of pure ones: a NAT that kept the session's port may not keep others. */
  readonly #pureAvoidance = new Avoidance();
  #halves: HalfPorts | undefined;
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
    this.#halves = new HalfPorts(limits.halfMs);
    this.#joined = true;
    // Perhaps from another network than before.
    this.#cellAvoidance.end();
    this.#pureAvoidance.end();
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
    return this.#cellAvoidance.isOn(this.#now());
  }

  /** Whether this side's connections are Pure Splices: there are such cells, and legs have met there. */
  get pure(): "none" | "used" | "avoided" {
    if (!this.#joined || !this.#pool!.hasPure) return "none";
    return this.#pureAvoidance.isOn(this.#now()) ? "avoided" : "used";
  }

  /** Where the legs of an attempt meet. A cell that is chosen is this open's until {@link settled}. */
  choose(attempt: number): Rendezvous {
    const allocation = this.offer.allocation;
    if (this.#joined && this.peerJoined && attempt < CELL_ATTEMPTS && !this.avoidsCells) {
      // What has just failed there is not tried once more.
      const isPure = attempt === 0 && this.pure === "used";
      const pure = isPure ? this.#pool!.take("tcp", this.#now(), true) : undefined;
      if (pure !== undefined) return { at: "cell", allocation, cell: pure, mode: "pure" };
      if (isPure) this.#grow(true);
      const cell = this.#pool!.take("tcp", this.#now());
      if (cell !== undefined) return { at: "cell", allocation, cell, mode: "passive" };
      this.#grow(false);
    }
    return { at: "stream", allocation };
  }

  /** A cell for a UDP path, which keeps it for life. */
  chooseUdp(): Rendezvous | undefined {
    if (!this.#joined || !this.peerJoined) return undefined;
    const cell = this.#pool!.take("udp", this.#now());
    if (cell !== undefined) return { at: "cell", allocation: this.offer.allocation, cell, mode: "passive" };
    this.#grow(false);
    return undefined;
  }

  settled(rendezvous: Rendezvous, proto: "tcp" | "udp", outcome: LegOutcome): void {
    if (rendezvous.at !== "cell") return;
    const { cell, mode } = rendezvous;
    if (outcome !== "joined" || !this.#pool?.isHeldByStream(cell)) {
      this.#pool?.give(cell, proto, this.#now(), outcome !== "joined");
    }
    if (proto === "udp") return;
    if (outcome === "joined") {
      this.#cellAvoidance.end();
      if (mode === "pure") this.#pureAvoidance.end();
    } else if (outcome === "failed") this.#failed(mode);
  }

  /** A stream of this side that met there has ended. */
  ended(rendezvous: Rendezvous): void {
    if (rendezvous.at !== "cell" || !this.#pool?.isHeldByStream(rendezvous.cell)) return;
    this.#pool.give(rendezvous.cell, "tcp", this.#now(), false);
  }

  /** Gives idle cells back; to be called now and then. */
  tidy(): void {
    if (!this.#requests) return;
    const idle = this.#pool!.retireIdle(this.#now());
    if (idle.length > 0) void this.#requests.shrink(idle);
  }

  /** Address of this side's port of a passive cell; nothing when there is no such cell (any more). */
  cellAddress(cell: number): HostPort | undefined {
    const found = this.#joined ? this.#pool!.get(cell) : undefined;
    return found && !found.pure ? { host: this.#reached!.host, port: found.port } : undefined;
  }

  /**
   * How this side's leg goes to a pure cell; nothing when there is no such cell (any more). Port 0 is yet to be told, see
   * {@link nextHalf}; without `source` any source port will do.
   */
  pureAddress(cell: number): { address: HostPort; source: number | undefined } | undefined {
    const found = this.#joined ? this.#pool!.get(cell) : undefined;
    if (!found?.pure) return undefined;
    return { address: { host: this.#reached!.host, port: found.port }, source: found.pure.source };
  }

  /** The IST says that a leg of the peer waits at a pure cell. @param port its source port, nothing: it is of no use */
  half(cell: number, port: number | undefined): void {
    this.#halves?.tell(cell, port, this.#now());
  }

  /** Waits for the IST's word of the peer's leg at a pure cell; it comes later in any case. @returns ends the wait */
  nextHalf(cell: number, onHalf: OnHalf): () => void {
    const told = this.#halves!.take(cell, this.#now());
    if (!told) return this.#halves!.wait(cell, onHalf);
    const later = setImmediate(() => onHalf(told.port));
    return () => clearImmediate(later);
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

  #failed(mode: "passive" | "pure"): void {
    const now = this.#now();
    if (mode === "pure") {
      this.#pureAvoidance.failed(now);
      return;
    }
    // Where pure ones fail, too, it is not for their ports.
    if (this.#pureAvoidance.isDoubted(now)) this.#cellAvoidance.failed(now);
    this.#cellAvoidance.failed(now);
  }

  #grow(pure: boolean): void {
    const wanted = this.#pool!.wanted(pure);
    if (this.#growing || wanted === 0 || !this.#requests) return;
    this.#growing = true;
    void this.#requests.grow(wanted, pure).finally(() => {
      this.#growing = false;
    });
  }
}

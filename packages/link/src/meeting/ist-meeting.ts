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

/** Legs of this many attempts try cells, the following ones the stream endpoint, which pairs exactly. */
const CELL_ATTEMPTS = 2;

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
  #pool: CellPool | undefined;
  #requests: CellRequests | undefined;
  #growing = false;
  /** Where the session to the IST stands: the host that was reached. */
  #reached: HostPort | undefined;
  peerJoined = false;

  constructor(offer: AllocationOffer, now: () => number) {
    this.offer = offer;
    this.#now = now;
  }

  get joined(): boolean {
    return this.#pool !== undefined;
  }

  get cells(): number[] {
    return this.#pool?.numbers ?? [];
  }

  /** The session to the IST is up and this side has joined. */
  setJoined(reached: HostPort, cells: readonly Cell[], limits: AllocationLimits, requests: CellRequests): void {
    this.#reached = reached;
    this.#requests = requests;
    this.#pool ??= new CellPool(this.offer.side, limits.halfMs);
    this.#pool.update(cells);
  }

  /** The session is down: cells may be gone or known to others alone, so only the stream endpoint is used. */
  setLeft(): void {
    this.#pool = undefined;
    this.#requests = undefined;
    this.peerJoined = false;
  }

  updateCells(cells: readonly Cell[]): void {
    this.#pool?.update(cells);
  }

  /** Where the legs of an attempt meet. A cell that is chosen is this open's until {@link settled}. */
  choose(attempt: number): Rendezvous {
    const allocation = this.offer.allocation;
    if (this.#pool && this.peerJoined && attempt < CELL_ATTEMPTS) {
      const cell = this.#pool.take("tcp", this.#now());
      if (cell !== undefined) return { at: "cell", allocation, cell, mode: "passive" };
      this.#grow();
    }
    return { at: "stream", allocation };
  }

  /** A cell for a UDP path, which keeps it for life. */
  chooseUdp(): Rendezvous | undefined {
    if (!this.#pool || !this.peerJoined) return undefined;
    const cell = this.#pool.take("udp", this.#now());
    if (cell !== undefined) return { at: "cell", allocation: this.offer.allocation, cell, mode: "passive" };
    this.#grow();
    return undefined;
  }

  settled(rendezvous: Rendezvous, proto: "tcp" | "udp", failed: boolean): void {
    if (rendezvous.at === "cell") this.#pool?.give(rendezvous.cell, proto, this.#now(), failed);
  }

  /** Gives idle cells back; to be called now and then. */
  tidy(): void {
    const idle = this.#pool?.idle(this.#now()) ?? [];
    if (idle.length > 0) void this.#requests?.shrink(idle);
  }

  /** Address of this side's port of a cell; nothing when the cell is not known (any more). */
  cellAddress(cell: number): HostPort | undefined {
    const port = this.#pool?.portOf(cell);
    return port === undefined ? undefined : { host: this.#host(0).host, port };
  }

  /** The stream endpoint: where the session stands, else the IST's addresses in turn. */
  streamAddress(attempt: number): HostPort {
    return this.#host(attempt);
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

  #host(attempt: number): HostPort {
    const { addresses } = this.offer.ist;
    return this.#reached ?? parseHostPort(addresses[attempt % addresses.length]!)!;
  }

  #grow(): void {
    const wanted = this.#pool?.wanted ?? 0;
    if (this.#growing || wanted === 0 || !this.#requests) return;
    this.#growing = true;
    void this.#requests.grow(wanted).finally(() => {
      this.#growing = false;
    });
  }
}

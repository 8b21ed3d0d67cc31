import type { Socket } from "node:net";
import {
  type LegId,
  type RendezvousCommand,
  resetSocket,
  type SocketSplicer,
  type SpliceTally,
  StreamRendezvous,
  WaitingLeg,
} from "@isthmus/datapath";
import { type Code, decodeLegHeader, IsthmusError, type LegHeader, verifyLegHeader } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import type { Allocation } from "../allocations/allocation.ts";
import type { Allocations } from "../allocations/allocations.ts";

/** Waiting legs are looked after this many times in the time that they may wait. */
const LOOKS = 20;

export interface StreamEndpointOptions {
  allocations: Allocations;
  splicer: SocketSplicer;
  /** Counts splices, and legs that ended, by reason. */
  tally: SpliceTally;
  halfMs: number;
  logger: Logger;
  countRefused: (code: Code) => void;
}

interface Waiting {
  allocation: Allocation;
  header: LegHeader;
  key: string;
  leg: WaitingLeg;
  /** It is no longer pending. */
  settled: () => void;
}

/** Where a leg says by its header whom it wants to meet. */
export class StreamEndpoint {
  readonly #options: StreamEndpointOptions;
  readonly #rendezvous: StreamRendezvous;
  readonly #waiting = new Map<LegId, Waiting>();
  #ids = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: StreamEndpointOptions) {
    this.#options = options;
    this.#rendezvous = new StreamRendezvous(options.halfMs);
  }

  /** Legs without a peer. */
  get size(): number {
    return this.#waiting.size;
  }

  /**
   * Takes a connection behind its header.
   * @param socket paused, with an `error` listener
   * @param bytes the header
   * @param settled called once, when the connection is a splice or gone
   */
  accept(socket: Socket, bytes: Buffer, settled: () => void): void {
    try {
      const header = decodeLegHeader(bytes);
      const allocation = this.#authenticate(header, bytes);
      if (header.kind === "also") this.#also(socket, allocation, header);
      else this.#leg(socket, allocation, header, settled);
    } catch (error) {
      const code = error instanceof IsthmusError ? error.code : "internal";
      if (code === "internal") this.#options.logger.error({ err: error }, "a leg was not taken");
      this.#options.countRefused(code);
      resetSocket(socket);
    }
  }

  /** Ends the legs of an allocation that is over. */
  end(allocation: Allocation, code: Code): void {
    for (const [id, waiting] of this.#waiting) {
      if (waiting.allocation !== allocation) continue;
      this.#rendezvous.gone(waiting.key, id);
      this.#end(id, code);
    }
  }

  /** Ends all legs that wait. */
  close(code: Code): void {
    clearTimeout(this.#timer);
    for (const id of [...this.#waiting.keys()]) this.#end(id, code);
  }

  /** @throws IsthmusError `bad-leg-header`, `unknown-allocation` */
  #authenticate(header: LegHeader, bytes: Buffer): Allocation {
    if (header.kind !== "leg" && header.kind !== "also") {
      throw new IsthmusError("bad-leg-header", `an IST takes no connection of kind ${header.kind}`);
    }
    const allocation = this.#options.allocations.get(header.allocation);
    if (!allocation) throw new IsthmusError("unknown-allocation");
    if (!verifyLegHeader(bytes, allocation.tokens[header.side])) throw new IsthmusError("bad-leg-header");
    return allocation;
  }

  #also(socket: Socket, allocation: Allocation, header: LegHeader): void {
    // The FIN says that the data path knows the address.
    this.#prove(socket, allocation, header, () => socket.destroySoon());
  }

  /** @throws IsthmusError `already-joined` */
  #leg(socket: Socket, allocation: Allocation, header: LegHeader, settled: () => void): void {
    const { generation, openId, attempt, side } = header;
    if (!allocation.pairedOpens.mayPair(generation, openId, attempt)) throw new IsthmusError("already-joined");
    this.#prove(socket, allocation, header, () => undefined);
    const key = `${allocation.id} ${generation} ${openId} ${attempt}`;
    const id = ++this.#ids;
    const leg = new WaitingLeg(socket, () => {
      this.#rendezvous.gone(key, id);
      this.#forget(id, "reset");
    });
    this.#waiting.set(id, { allocation, header, key, leg, settled });
    this.#run(this.#rendezvous.arrive(key, side, id, leg.since));
    this.#timer ??= setTimeout(this.#look, this.#options.halfMs / LOOKS);
  }

  #prove(socket: Socket, allocation: Allocation, header: LegHeader, done: () => void): void {
    const { remoteAddress } = socket;
    // Without an address the peer has reset it already.
    if (remoteAddress === undefined) return;
    this.#options.allocations.prove(allocation, header.side, remoteAddress).then(done, (error: unknown) => {
      this.#options.logger.warn({ err: error, allocation: allocation.id }, "a source address was not added");
      resetSocket(socket);
    });
  }

  #run(commands: RendezvousCommand[]): void {
    for (const command of commands) {
      if (command.do === "end") this.#end(command.leg, command.code);
      else this.#pair(command.legs);
    }
  }

  #pair(ids: [LegId, LegId]): void {
    const { splicer, tally } = this.#options;
    const [a, b] = ids.map((id) => this.#take(id)) as [Waiting, Waiting];
    const { allocation, header } = a;
    allocation.pairedOpens.paired(header.generation, header.openId, header.attempt);
    splicer.splice({ allocation: allocation.id, legs: [a.leg.take(), b.leg.take()], tally });
  }

  #end(id: LegId, code: Code): void {
    this.#waiting.get(id)!.leg.reset();
    this.#forget(id, code);
  }

  #forget(id: LegId, code: Code): void {
    this.#take(id);
    this.#options.tally.countClosed(code);
  }

  #take(id: LegId): Waiting {
    const waiting = this.#waiting.get(id)!;
    this.#waiting.delete(id);
    waiting.settled();
    return waiting;
  }

  readonly #look = (): void => {
    this.#timer = undefined;
    this.#run(this.#rendezvous.expire(performance.now()));
    if (this.#waiting.size > 0) this.#timer = setTimeout(this.#look, this.#options.halfMs / LOOKS);
  };
}

import type { IstHalf, IstSplice } from "@isthmus/native/netlink";
import type { Transport } from "@isthmus/protocol";
import type { DataPathEvent } from "../data-path.ts";
import { allocationOf, codeOf, hostPortOf, transportOf } from "./translation.ts";

interface LiveSplice {
  readonly allocation: string;
  readonly cell: number;
  readonly proto: Transport;
  readonly pure: boolean;
  established: boolean;
}

/**
 * Makes the data path's events of the kernel's: those tell every state of a splice, and some twice (a splice that was
 * reset may go on, and end again). Pure.
 */
export class SpliceEvents {
  readonly #live = new Map<bigint, LiveSplice>();

  /** An unpaired leg came, or waits no longer. */
  half({ alloc = 0n, cell = 0, proto, side, remote, remotePort, reason }: IstHalf): DataPathEvent {
    const at = { allocation: allocationOf(alloc), cell, proto: transportOf(proto) };
    if (reason !== undefined) return { event: "closed", ...at, code: codeOf(reason) };
    return { event: "half", ...at, side: side === 1 ? 1 : 0, source: hostPortOf(remote, remotePort) };
  }

  /** A splice entered a state. */
  splice(splice: IstSplice): DataPathEvent[] {
    const { id = 0n, reason } = splice;
    const live = this.#live.get(id);
    if (reason !== undefined) {
      // Its end may be told once more when a late reset arrives.
      if (!live) return [];
      this.#live.delete(id);
      return [{ event: "closed", ...at(live), splice: Number(id), code: codeOf(reason) }];
    }
    const known = live ?? liveSplice(splice);
    this.#live.set(id, known);
    const events: DataPathEvent[] = live ? [] : [{ event: "paired", ...at(known), splice: Number(id) }];
    if (splice.state !== "syn-rcvd" && !known.established) {
      known.established = true;
      events.push({ event: "established", ...at(known), splice: Number(id) });
    }
    return events;
  }

  /** Living splices whose ports pass unchanged. */
  get pure(): number {
    let count = 0;
    for (const { pure } of this.#live.values()) if (pure) count++;
    return count;
  }

  /** Starts from what a dump told, without events. */
  reset(splices: readonly IstSplice[]): void {
    this.#live.clear();
    for (const splice of splices) this.learn(splice);
  }

  /** What a dump told of one splice, without an event. */
  learn(splice: IstSplice): void {
    const { id, state, reason } = splice;
    if (id === undefined) return;
    if (reason === undefined) this.#live.set(id, { ...liveSplice(splice), established: state !== "syn-rcvd" });
    else this.#live.delete(id);
  }

  /** A dump told of this one no more. */
  forget(id: bigint): void {
    this.#live.delete(id);
  }

  /** All splices are gone without a word of each. */
  lost(): DataPathEvent[] {
    const events = Array.from(this.#live, ([id, live]): DataPathEvent => {
      return { event: "closed", ...at(live), splice: Number(id), code: "reset" };
    });
    this.#live.clear();
    return events;
  }
}

function liveSplice({ alloc = 0n, cell = 0, proto, mode }: IstSplice): LiveSplice {
  return {
    allocation: allocationOf(alloc),
    cell,
    proto: transportOf(proto),
    pure: mode === "pure",
    established: false,
  };
}

function at({ allocation, cell, proto }: LiveSplice) {
  return { allocation, cell, proto };
}

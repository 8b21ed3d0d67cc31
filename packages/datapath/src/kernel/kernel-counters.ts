import type { IstStats } from "@isthmus/native/netlink";
import type { DataPathStats } from "../data-path.ts";
import { dataPathStats } from "./translation.ts";

type Counts = Partial<Record<string, number>>;
type Counters = Pick<DataPathStats, "bytes" | "closed" | "dropped">;

const NONE: Counters = { bytes: 0, closed: {}, dropped: {} };

/**
 * The kernel counts since its module was loaded, the data path since it was opened, in spite of a module that is loaded
 * anew meanwhile. Pure.
 */
export class KernelCounters {
  /** Of modules that are gone. */
  #before: Counters = NONE;
  /** What the kernel had counted when this began. */
  #start: Counters = NONE;
  #newest: Counters = NONE;

  start(stats: IstStats): void {
    this.#start = dataPathStats(stats);
    this.#newest = this.#before;
  }

  /** The kernel starts anew. */
  pause(): void {
    this.#before = this.#newest;
  }

  take(stats: IstStats): ReturnType<typeof dataPathStats> {
    const now = dataPathStats(stats);
    this.#newest = {
      bytes: this.#before.bytes + now.bytes - this.#start.bytes,
      closed: sum(this.#before.closed, now.closed, this.#start.closed),
      dropped: sum(this.#before.dropped, now.dropped, this.#start.dropped),
    };
    return { ...now, ...this.#newest };
  }
}

function sum(before: Counts, now: Counts, start: Counts): Counts {
  const reasons = new Set([...Object.keys(before), ...Object.keys(now)]);
  const counts = Array.from(reasons, (reason) => {
    return [reason, (before[reason] ?? 0) + (now[reason] ?? 0) - (start[reason] ?? 0)] as const;
  });
  return Object.fromEntries(counts.filter(([, count]) => count > 0));
}

import type { istDaemon } from "@isthmus/protocol";
import type { Session } from "@isthmus/session";

/** Allocations that a session left are remembered up to this number. */
const MOST_LEFT = 1024;

/** What the relay keeps beside a daemon's session. */
export class DaemonContext {
  /** Allocations that this very session has joined. */
  readonly joined = new Set<string>();
  readonly #left = new Set<string>();
  isClosed = false;

  join(allocation: string): void {
    this.#left.delete(allocation);
    this.joined.add(allocation);
  }

  leave(allocation: string): void {
    this.joined.delete(allocation);
    this.#left.add(allocation);
    if (this.#left.size > MOST_LEFT) this.#left.delete(this.#left.values().next().value!);
  }

  /** Whether the daemon may not have heard yet that it is no longer joined: it is no offence to go on for a moment. */
  hasLeft(allocation: string): boolean {
    return this.#left.has(allocation);
  }
}

export type DaemonSession = Session<typeof istDaemon, DaemonContext>;

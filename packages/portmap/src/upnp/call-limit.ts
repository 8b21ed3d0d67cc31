import { abortError, onAbort } from "../deadline.ts";

/** What any gateway takes at a time: the least that one of them lets wait at its door is 5. */
const FIRST_LIMIT = 4;
const LEAST_LIMIT = 2;
const HIGHEST_LIMIT = 64;

/** So long the limit stays below where it was too high: a host that was busy, or asleep, may have made it look so. */
const CAUTIOUS_MS = 60_000;
/** So long a call of the background waits behind all others; then it takes turns with them. */
const PATIENCE_MS = 1000;

/** When a call may start. */
export interface CallTurn {
  /** Ends the wait, and the call. */
  signal?: AbortSignal;
  /** Ends the wait alone. */
  withdraw?: AbortSignal | undefined;
  /** Waits behind all calls that are not of the background, and after a second takes turns with them. @default false */
  background?: boolean | undefined;
}

/**
 * How many calls may be under way; the others wait in order. Small gateways turn connections away that come too many at
 * a time, others take them all: the limit grows while calls wait, and for a minute not beyond where it was too high.
 */
export class CallLimit {
  #limit = FIRST_LIMIT;
  #ceiling = HIGHEST_LIMIT;
  /** When the limit was too high last. */
  #cutMs = Number.NEGATIVE_INFINITY;
  #running = 0;
  /** In order, with the time at which each began to wait. */
  readonly #waiting = { urgent: new Map<() => void, number>(), background: new Map<() => void, number>() };
  /** Of the call that was let in last after waiting. */
  #wasUrgent = false;

  get limit(): number {
    return this.#limit;
  }

  /**
   * Calls in its turn.
   * @param background waits behind all that are not, and after a second takes turns with them
   * @throws PortmapError `untouched` when a signal aborts before its turn has come
   */
  async run<T>(act: () => Promise<T>, turn: CallTurn = {}): Promise<T> {
    if (this.#running >= this.#limit) await this.#turn(turn);
    else this.#running++;
    try {
      return await act();
    } finally {
      // The place goes to the next in turn, unless there are too many places.
      const next = this.#running > this.#limit ? undefined : this.#next();
      if (next) next();
      else this.#running--;
    }
  }

  /** A connection was made that was begun at that time (`performance.now()`): at once, or at the second attempt alone. */
  connected(wasTurnedAway: boolean, startedMs: number): void {
    const nowMs = performance.now();
    if (nowMs - this.#cutMs > CAUTIOUS_MS) this.#ceiling = HIGHEST_LIMIT;
    if (wasTurnedAway) {
      // Those of before the last cut say what is known.
      if (startedMs <= this.#cutMs) return;
      this.#limit = Math.max(LEAST_LIMIT, Math.floor(this.#limit / 2));
      this.#ceiling = this.#limit;
      this.#cutMs = nowMs;
    } else if (this.#limit < this.#ceiling) {
      const next = this.#next();
      if (!next) return;
      this.#limit++;
      this.#running++;
      next();
    }
  }

  /** Resolves with a place that another call has left. */
  #turn({ background = false, ...signals }: CallTurn): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const queue = background ? this.#waiting.background : this.#waiting.urgent;
    queue.set(resolve, performance.now());
    const releases = [signals.signal, signals.withdraw].map(
      (signal) =>
        signal &&
        onAbort(signal, () => {
          queue.delete(resolve);
          reject(abortError(signal, { untouched: true }));
        }),
    );
    return promise.finally(() => {
      for (const release of releases) release?.();
    });
  }

  /** Takes the next out of its queue. */
  #next(): (() => void) | undefined {
    const { urgent, background } = this.#waiting;
    const [since] = background.values();
    const isLate = since !== undefined && performance.now() - since > PATIENCE_MS;
    const queues = isLate && this.#wasUrgent ? [background, urgent] : [urgent, background];
    for (const queue of queues) {
      const [first] = queue.keys();
      if (!first) continue;
      queue.delete(first);
      this.#wasUrgent = queue === urgent;
      return first;
    }
    return undefined;
  }
}

import { abortError, onAbort } from "../deadline.ts";

/** What any gateway takes at a time: the least that one of them lets wait at its door is 5. */
const FIRST_LIMIT = 4;
const LEAST_LIMIT = 2;
const HIGHEST_LIMIT = 64;

/** When a call may start. */
export interface CallTurn {
  /** Ends the wait, and the call. */
  signal?: AbortSignal;
  /** Ends the wait alone. */
  withdraw?: AbortSignal | undefined;
  /** Waits behind all calls that are not of the background. @default false */
  background?: boolean | undefined;
}

/**
 * How many calls may be under way; the others wait in order. Small gateways turn connections away that come too many at
 * a time, others take them all: the limit grows while calls wait, and never again beyond where it was too high.
 */
export class CallLimit {
  #limit = FIRST_LIMIT;
  #ceiling = HIGHEST_LIMIT;
  #running = 0;
  /** In order; those of the background come last. */
  readonly #waiting = { urgent: new Set<() => void>(), background: new Set<() => void>() };

  get limit(): number {
    return this.#limit;
  }

  /**
   * Calls in its turn.
   * @param background waits behind all that are not
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

  /** A connection was made: at once, or at the second attempt alone. */
  connected(wasTurnedAway: boolean): void {
    if (wasTurnedAway) {
      this.#limit = Math.max(LEAST_LIMIT, Math.floor(this.#limit / 2));
      this.#ceiling = this.#limit;
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
    queue.add(resolve);
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
    for (const queue of [this.#waiting.urgent, this.#waiting.background]) {
      const [first] = queue;
      if (!first) continue;
      queue.delete(first);
      return first;
    }
    return undefined;
  }
}

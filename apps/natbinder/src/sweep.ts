import { setTimeout as sleep } from "node:timers/promises";
import type { Binding, Owner, PortKey } from "@isthmus/binding";
import type { Logger } from "@isthmus/service";

/** Beyond what a bind may wait: until its socket has the port that its owner is noted for. */
export const HAND_OVER_MS = 1000;

export interface SweepOptions {
  binding: Binding;
  whatIsOpen: () => Promise<(key: PortKey, owner: Owner) => boolean>;
  /** What a bind may wait, in milliseconds. */
  waitMs: number;
  logger: Logger;
}

/** Looks for sockets whose ends nobody heard: the kernel tells no more than this process has room and time for. */
export class Sweep {
  readonly #options: SweepOptions;
  #isDue = false;
  #running: Promise<void> | undefined;
  readonly #stopping = new AbortController();

  constructor(options: SweepOptions) {
    this.#options = options;
  }

  /** Ends were missed, up to now. One look is for all that were missed before it. */
  missed(): void {
    this.#isDue = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  stop(): void {
    this.#stopping.abort();
  }

  async #run(): Promise<void> {
    const { waitMs, logger } = this.#options;
    logger.warn({}, "ends of sockets were missed: looking at all");
    const { signal } = this.#stopping;
    while (this.#isDue && !signal.aborted) {
      this.#isDue = false;
      const missedMs = Date.now();
      await sleep(waitMs + HAND_OVER_MS, undefined, { signal, ref: false }).catch(() => undefined);
      if (signal.aborted) return;
      await this.#closeGone(missedMs).catch((err: Error) => {
        if (!signal.aborted) logger.warn({ err }, "the sockets of this host cannot be listed");
      });
    }
  }

  /** Owners that are younger may not have their ports yet, and their ends were not among those that were missed. */
  async #closeGone(bornBeforeMs: number): Promise<void> {
    const { binding, whatIsOpen } = this.#options;
    const { entries } = binding;
    const isOpen = await whatIsOpen();
    for (const { owners, ...key } of entries) {
      for (const owner of owners) {
        if (owner.since * 1000 <= bornBeforeMs && !isOpen(key, owner)) binding.close(key.namespace, owner.socket);
      }
    }
  }
}

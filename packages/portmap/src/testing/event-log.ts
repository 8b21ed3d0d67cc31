import { isDeepStrictEqual } from "node:util";
import type { PortMapperEvent } from "../port-mapper.ts";

const TIMEOUT_MS = 8000;

/** A mapper's events, each to be waited for. */
export class EventLog {
  readonly all: PortMapperEvent[] = [];
  #read = 0;
  #wake: () => void = () => undefined;

  readonly add = (event: PortMapperEvent): void => {
    this.all.push(event);
    this.#wake();
  };

  /** The next event with these values, already there or still to come; those before it are passed over. */
  async next(wanted: Partial<PortMapperEvent>, timeoutMs = TIMEOUT_MS): Promise<PortMapperEvent> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const at = this.all.findIndex((event, index) => index >= this.#read && matches(event, wanted));
      if (at >= 0) {
        this.#read = at + 1;
        return this.all[at]!;
      }
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) throw new Error(`no ${JSON.stringify(wanted)} among ${JSON.stringify(this.all)}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      const timer = setTimeout(resolve, leftMs);
      await promise;
      clearTimeout(timer);
    }
  }
}

function matches(event: PortMapperEvent, wanted: Partial<PortMapperEvent>): boolean {
  return Object.entries(wanted).every(([name, value]) =>
    isDeepStrictEqual((event as Record<string, unknown>)[name], value),
  );
}

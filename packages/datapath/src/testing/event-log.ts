import type { DataPathEvent } from "../data-path.ts";

const DEADLINE_MS = 10_000;

/** The events of a data path, to be waited for in their order. */
export class EventLog {
  readonly #events: DataPathEvent[] = [];
  #onEvent = Promise.withResolvers<void>();

  readonly add = (event: DataPathEvent): void => {
    this.#events.push(event);
    this.#onEvent.resolve();
    this.#onEvent = Promise.withResolvers();
  };

  /** The next event that has these fields; those before it are skipped. @throws when none comes in time */
  async next(fields: Partial<DataPathEvent>): Promise<DataPathEvent> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new Error(`no event ${JSON.stringify(fields)}`)), DEADLINE_MS);
    try {
      for (;;) {
        const event = this.#events.shift();
        if (!event) await Promise.race([this.#onEvent.promise, late.promise]);
        else if (Object.entries(fields).every(([key, value]) => event[key as keyof DataPathEvent] === value))
          return event;
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

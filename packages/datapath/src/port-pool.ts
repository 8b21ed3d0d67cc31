import { randomInt } from "node:crypto";
import { IsthmusError } from "@isthmus/protocol";
import type { PortRange } from "./data-path.ts";

/** Random ports that are tried before the whole range is searched. */
const RANDOM_TRIES = 32;
/** The port belongs to somebody else; the next may be free. */
const TAKEN = new Set(["EADDRINUSE", "EACCES"]);
const OUT_OF_FILES = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);

/** The ports of a range, each given to one holder at a time. */
export class PortPool {
  readonly #range: PortRange;
  readonly #taken = new Set<number>();

  constructor(range: PortRange) {
    this.#range = range;
  }

  /**
   * Opens something on a port that is free here and in the system: on `wanted` if possible, else on a random one.
   * @throws IsthmusError `ist-full` when there is none, or no file descriptor is left
   */
  async take<T>(wanted: number | undefined, open: (port: number) => Promise<T>): Promise<T> {
    for (const port of this.#candidates(wanted)) {
      if (this.#taken.has(port)) continue;
      this.#taken.add(port);
      try {
        return await open(port);
      } catch (error) {
        this.#taken.delete(port);
        const { code = "" } = error as NodeJS.ErrnoException;
        if (OUT_OF_FILES.has(code)) throw new IsthmusError("ist-full", `no socket left (${code})`, { cause: error });
        if (!TAKEN.has(code)) throw error;
      }
    }
    throw new IsthmusError("ist-full", `no port of ${this.#range.from}-${this.#range.to} is free`);
  }

  /** Somebody has it already. */
  hold(port: number): void {
    this.#taken.add(port);
  }

  give(port: number): void {
    this.#taken.delete(port);
  }

  *#candidates(wanted: number | undefined): Generator<number> {
    const { from, to } = this.#range;
    if (wanted !== undefined && wanted >= from && wanted <= to) yield wanted;
    for (let n = 0; n < RANDOM_TRIES; n++) yield randomInt(from, to + 1);
    const start = randomInt(from, to + 1);
    for (let port = start; port <= to; port++) yield port;
    for (let port = from; port < start; port++) yield port;
  }
}

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Logger, replaceFile } from "@isthmus/service";
import { type IdealState, idealStateSchema, type StoredState } from "./ideal-state.ts";

/** Changes within that time are written at once: a durable write takes as long as some binds. */
const GATHER_MS = 20;
/** Of a long state: this many times as long as it kept the process busy, so that it never costs more than a part of the time. */
const PAUSE_FACTOR = 9;
/** After a failed write. */
const RETRY_MS = 5000;

/** The ideal state on disk. A disk that cannot be written costs what a crash would lose, and nothing else. */
export class StateFile {
  readonly #path: string;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  #state: IdealState | undefined;
  #trouble: string | undefined;
  #writing: Promise<void> | undefined;
  /** What the newest text took to make. */
  #tookMs = 0;

  constructor(folder: string, logger: Logger) {
    this.#path = join(folder, "ideal-state.json");
    this.#logger = logger;
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
    } catch (error) {
      this.#fail("cannot make the folder of the ideal state", error);
    }
  }

  /** Why the state is in memory only, if it is. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** What was written last; nothing where there is none, or none that makes sense. */
  read(): StoredState | undefined {
    let text: string;
    try {
      text = readFileSync(this.#path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") this.#fail("cannot read the ideal state", error);
      return undefined;
    }
    try {
      return idealStateSchema.parse(JSON.parse(text));
    } catch (err) {
      this.#logger.error({ err, path: this.#path }, "the ideal state on disk makes no sense: starting without");
      return undefined;
    }
  }

  /** Writes the state, as it is then, within a moment. */
  save(state: IdealState): void {
    this.#state = state;
    const gatherMs = Math.max(GATHER_MS, this.#tookMs * PAUSE_FACTOR);
    this.#timer ??= setTimeout(() => void this.flush(), this.#trouble === undefined ? gatherMs : RETRY_MS).unref();
  }

  /** Writes what is waiting to be. Resolves when it is on disk, or cannot be. */
  async flush(): Promise<void> {
    await this.#writing;
    if (!this.#timer) return this.#writing;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#writing = this.#write();
    return this.#writing;
  }

  async #write(): Promise<void> {
    const state = this.#state;
    if (!state) return;
    const startedMs = performance.now();
    const text = `${JSON.stringify(state.toStored())}\n`;
    this.#tookMs = performance.now() - startedMs;
    try {
      await replaceFile(this.#path, text);
      if (this.#trouble !== undefined) this.#logger.info({ path: this.#path }, "the ideal state is on disk again");
      this.#trouble = undefined;
    } catch (error) {
      this.#fail("cannot write the ideal state: going on in memory", error);
      this.save(state);
    }
  }

  #fail(what: string, error: unknown): void {
    const trouble = error instanceof Error ? error.message : String(error);
    // Once for each kind of trouble, not for each write.
    if (this.#trouble !== trouble) this.#logger.error({ err: error, path: this.#path }, what);
    this.#trouble = trouble;
  }
}

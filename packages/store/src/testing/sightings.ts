import type { Entry, Watcher } from "../store.ts";

export interface Sighting {
  key: string;
  entry: Entry | undefined;
  version: number;
}

/** A watcher that writes down what it sees, and lets a test wait for it. */
export class Sightings implements Watcher {
  readonly changes: Sighting[] = [];
  resyncs = 0;
  #waiting: (() => void)[] = [];

  changed(key: string, entry: Entry | undefined, version: number): void {
    this.changes.push({ key, entry, version });
    this.#wake();
  }

  resync(): void {
    this.resyncs++;
    this.#wake();
  }

  /** Resolves once `enough` holds. The deadline is the test's own. */
  async until(enough: (sightings: this) => boolean): Promise<void> {
    while (!enough(this)) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    const woken = this.#waiting;
    this.#waiting = [];
    for (const resolve of woken) resolve();
  }
}

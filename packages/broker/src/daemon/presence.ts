import type { Directory } from "../directory/directory.ts";
import type { Profiles } from "../profiles/profiles.ts";

/**
 * Which devices are present: those that have declared themselves, and for a grace those whose session broke since. Held
 * in memory alone.
 */
export class Presence {
  readonly #profiles: Profiles;
  readonly #directory: Directory;
  readonly #graceMs: number;
  readonly #left: (key: string) => void;
  readonly #declared = new Set<string>();
  /** Devices whose session broke, with the time at which they are away; in that order. */
  readonly #broken = new Map<string, number>();

  /** @param options.left told when a device is not present any more */
  constructor(options: {
    profiles: Profiles;
    directory: Directory;
    graceMs: number;
    left: (key: string) => void;
  }) {
    this.#profiles = options.profiles;
    this.#directory = options.directory;
    this.#graceMs = options.graceMs;
    this.#left = options.left;
  }

  isPresent(key: string): boolean {
    return this.#declared.has(key) || this.#broken.has(key);
  }

  /** Whether a device is present although its session is down. */
  isBroken(key: string): boolean {
    return this.#broken.has(key);
  }

  declared(key: string): void {
    this.#broken.delete(key);
    this.#declared.add(key);
    this.#show(key);
  }

  /** The session broke: the device may be back in a moment. */
  broke(key: string, now: number): void {
    if (!this.#declared.delete(key)) return;
    this.#broken.set(key, now + this.#graceMs);
  }

  /** The device is gone for good, as far as one knows. */
  left(key: string): void {
    this.#declared.delete(key);
    this.#broken.delete(key);
    this.#show(key);
    this.#left(key);
  }

  sweep(now: number): void {
    for (const [key, awayAt] of this.#broken) {
      if (awayAt > now) return;
      this.left(key);
    }
  }

  #show(key: string): void {
    const present = this.isPresent(key);
    for (const id of this.#profiles.servicesOfDevice(key)) this.#directory.setPresent(id, present);
  }
}

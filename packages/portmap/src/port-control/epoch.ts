/** A gateway's clock at one of its answers. */
export interface EpochReading {
  /** The gateway's seconds since it forgot everything. */
  epoch: number;
  /** Our own clock then, in milliseconds; must not be set back. */
  atMs: number;
}

/** Whether a gateway that gave `before` and then `now` still has its state. */
export type EpochRule = (before: EpochReading, now: EpochReading) => boolean;

/** RFC 6887, 8.5: the clock may not go back by more than a second, nor run away from ours by more than a sixteenth. */
export const pcpEpochHolds: EpochRule = (before, now) => {
  if (now.epoch < before.epoch - 1) return false;
  const client = Math.floor((now.atMs - before.atMs) / 1000);
  const server = now.epoch - before.epoch;
  return client + 2 >= server - server / 16 && server + 2 >= client - client / 16;
};

/** RFC 6886, 3.6: the clock runs at seven eighths of ours at least, and two seconds are forgiven. */
export const natPmpEpochHolds: EpochRule = (before, now) => {
  const elapsed = (now.atMs - before.atMs) / 1000;
  return now.epoch >= before.epoch + (elapsed * 7) / 8 - 2;
};

/** The newest reading of one gateway's clock. */
export class EpochClock {
  readonly #holds: EpochRule;
  readonly #now: () => number;
  #newest: EpochReading | undefined;

  constructor(rule: EpochRule, now: () => number = () => performance.now()) {
    this.#holds = rule;
    this.#now = now;
  }

  /** Takes the epoch of an answer. False when the gateway must have lost its state since the answer before. */
  hear(epoch: number): boolean {
    const reading = { epoch, atMs: this.#now() };
    const before = this.#newest;
    this.#newest = reading;
    return before === undefined || this.#holds(before, reading);
  }

  /** The next answer is the first: another gateway, or none for a while. */
  reset(): void {
    this.#newest = undefined;
  }
}

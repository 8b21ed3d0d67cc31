import { setImmediate as turn } from "node:timers/promises";

/** Resets that are to be sent: some in every turn of the loop, so that nothing else waits for all of them. */
export class Resets {
  readonly #send: (some: Buffer) => void;
  readonly #bytesAtOnce: number;
  readonly #waiting: Buffer[] = [];
  #isSending = false;
  #sent: Promise<void> = Promise.resolve();

  /** @param send sends those of some splices @param bytesAtOnce a multiple of what it takes for one of them */
  constructor(send: (some: Buffer) => void, bytesAtOnce: number) {
    this.#send = send;
    this.#bytesAtOnce = bytesAtOnce;
  }

  /** The first are sent at once when nothing waits. */
  add(splices: Buffer): void {
    for (let at = 0; at < splices.length; at += this.#bytesAtOnce) {
      this.#waiting.push(splices.subarray(at, at + this.#bytesAtOnce));
    }
    if (!this.#isSending) this.#sent = this.#sendAll();
  }

  /** All are sent. */
  async end(): Promise<void> {
    await this.#sent;
  }

  async #sendAll(): Promise<void> {
    this.#isSending = true;
    for (let some = this.#waiting.shift(); some; some = this.#waiting.shift()) {
      this.#send(some);
      if (this.#waiting.length > 0) await turn();
    }
    this.#isSending = false;
  }
}

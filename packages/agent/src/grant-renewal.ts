import type { GrantPayload } from "@isthmus/protocol";

/** A grant is not renewed more often than this. */
const LEAST_MS = 1000;
/** A renewal that failed is tried again after this, or earlier where the grant would be over. */
const RETRY_MS = 60_000;
/** Timers stand still while the host sleeps, so the clock is looked at so often. */
const CHECK_MS = 600_000;

/** When a grant is to be renewed: at half of its life, though the clocks of ISB and host may differ. */
export class GrantRenewal {
  readonly #due: () => void;
  #timer: NodeJS.Timeout | undefined;

  /** @param due called once for each {@link schedule} or {@link retry} */
  constructor(due: () => void) {
    this.#due = due;
  }

  schedule(grant: GrantPayload): void {
    const now = Date.now();
    const half = ((grant.iat + grant.exp) / 2) * 1000;
    this.#wakeAt(half > now ? half : now + leastOf(grant, now));
  }

  /** The renewal failed. */
  retry(grant: GrantPayload): void {
    const now = Date.now();
    this.#wakeAt(now + Math.min(RETRY_MS, leastOf(grant, now)));
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #wakeAt(at: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => {
        if (Date.now() >= at) this.#due();
        else this.#wakeAt(at);
      },
      Math.min(Math.max(LEAST_MS, at - Date.now()), CHECK_MS),
    );
  }
}

/** A part of what is left of the grant: a clock that runs ahead must not make a loop of renewals. */
function leastOf(grant: GrantPayload, now: number): number {
  return Math.max(LEAST_MS, (grant.exp * 1000 - now) / 4);
}

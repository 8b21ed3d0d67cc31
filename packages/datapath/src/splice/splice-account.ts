import type { PumpAccount } from "@isthmus/native/pump";
import type { AllocationLimits, Code } from "@isthmus/protocol";
import type { SpliceDump } from "../data-path.ts";
import { type Rate, RateBucket } from "./rate-bucket.ts";

/** Limits are looked after at most this often, so that splices whose limits come due one by one cost no scan each. */
const LOOK_EVERY_MS = 20;
/** Node's timers take no more (2^31 - 1); the early look finds nothing to do and sets the next. */
const MOST_TIMER_MS = 2_147_483_647;

/** A splice as its account sees it. Times are of `performance.now()`. */
export interface SpliceMember {
  readonly since: number;
  readonly lastActive: number;
  /** An idle limit of its own, milliseconds; 0: only the allocation's. */
  readonly ownIdleMs: number;
  end(code: Code): void;
  dump(now: number): SpliceDump;
}

/** Bytes that wait until the rate allows them. */
export interface HeldBytes {
  readonly heldBytes: number;
  release(): void;
}

/**
 * What all splices of one allocation share, wherever their legs met: the limits, and who is held to them. Bytes above
 * the rate wait in the order in which they came, so that no splice starves.
 */
export class SpliceAccount {
  readonly allocation: string;
  readonly rate: Rate;
  /** Holds what the pump moves to the same limits. */
  readonly pumpAccount: PumpAccount | undefined;
  #limits: AllocationLimits;
  readonly #members = new Set<SpliceMember>();
  readonly #held = new Set<HeldBytes>();
  #rateTimer: NodeJS.Timeout | undefined;
  #limitTimer: NodeJS.Timeout | undefined;
  #limitsDue = Number.POSITIVE_INFINITY;

  constructor(allocation: string, limits: AllocationLimits, pumpAccount?: PumpAccount) {
    this.allocation = allocation;
    this.pumpAccount = pumpAccount;
    this.#limits = limits;
    pumpAccount?.set(limits.bytesPerSecond, limits.bytes);
    this.rate = pumpAccount ?? new RateBucket(limits.bytesPerSecond);
  }

  get limits(): AllocationLimits {
    return this.#limits;
  }

  set limits(limits: AllocationLimits) {
    this.#limits = limits;
    this.rate.set(limits.bytesPerSecond, limits.bytes);
    this.#releaseHeld();
    this.#lookAfterLimits();
  }

  get isFull(): boolean {
    return this.#limits.splices > 0 && this.#members.size >= this.#limits.splices;
  }

  enter(member: SpliceMember): void {
    this.#members.add(member);
    this.#lookAt(this.#dueAt(member));
  }

  leave(member: SpliceMember): void {
    this.#members.delete(member);
    if (this.#members.size > 0) return;
    clearTimeout(this.#limitTimer);
    this.#limitsDue = Number.POSITIVE_INFINITY;
  }

  /** @returns false when they must wait: {@link hold} them */
  mayPass(bytes: number): boolean {
    return this.#held.size === 0 && this.rate.spend(bytes, false);
  }

  hold(held: HeldBytes): void {
    this.#held.add(held);
    this.#rateTimer ??= setTimeout(this.#releaseHeld, Math.ceil(this.rate.waitMs()));
  }

  /** They wait no longer: their splice ended. */
  drop(held: HeldBytes): void {
    this.#held.delete(held);
    if (this.#held.size > 0) return;
    clearTimeout(this.#rateTimer);
    this.#rateTimer = undefined;
  }

  /** Ends every splice. */
  endAll(code: Code): void {
    for (const member of [...this.#members]) member.end(code);
  }

  dump(): SpliceDump[] {
    const now = performance.now();
    return Array.from(this.#members, (member) => member.dump(now));
  }

  readonly #releaseHeld = (): void => {
    clearTimeout(this.#rateTimer);
    this.#rateTimer = undefined;
    for (const held of this.#held) {
      if (!this.rate.spend(held.heldBytes, false)) {
        this.#rateTimer = setTimeout(this.#releaseHeld, Math.ceil(this.rate.waitMs()));
        return;
      }
      this.#held.delete(held);
      held.release();
    }
  };

  /** When the time of a splice is over, unless something moves on it meanwhile. */
  #dueAt({ since, lastActive, ownIdleMs }: SpliceMember): number {
    const { idleMs, totalMs } = this.#limits;
    const ends = [
      ...(totalMs > 0 ? [since + totalMs] : []),
      ...(idleMs > 0 ? [lastActive + idleMs] : []),
      ...(ownIdleMs > 0 ? [lastActive + ownIdleMs] : []),
    ];
    return Math.min(...ends);
  }

  #lookAt(time: number): void {
    if (time >= this.#limitsDue) return;
    clearTimeout(this.#limitTimer);
    this.#limitsDue = time;
    const waitMs = Math.max(LOOK_EVERY_MS, time - performance.now());
    this.#limitTimer = setTimeout(this.#lookAfterLimits, Math.min(waitMs, MOST_TIMER_MS));
  }

  readonly #lookAfterLimits = (): void => {
    clearTimeout(this.#limitTimer);
    this.#limitsDue = Number.POSITIVE_INFINITY;
    const now = performance.now();
    const { totalMs } = this.#limits;
    let next = Number.POSITIVE_INFINITY;
    for (const member of [...this.#members]) {
      const due = this.#dueAt(member);
      if (due > now) next = Math.min(next, due);
      else member.end(totalMs > 0 && member.since + totalMs <= now ? "time-limit" : "idle-limit");
    }
    if (next < Number.POSITIVE_INFINITY) this.#lookAt(next);
  };
}

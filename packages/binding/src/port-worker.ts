import { type CallOptions, type Mapping, type PortMapper, PortmapError } from "@isthmus/portmap";
import type { PortKey } from "./ideal-state.ts";

/** What is needed of a gateway; PortMapper has it. */
export type BindingGateway = Pick<PortMapper, "gateway" | "map" | "unmap" | "list">;

/** What is known about the gateway's entry: `unsure` after silence, or after a restart of either side. */
type Knowledge = "mapped" | "absent" | "unsure";

const FIRST_RETRY_MS = 5000;
const LONGEST_RETRY_MS = 60_000;
/** A gateway that is slow is still waited for, though no bind does. */
const CALL_TIMEOUT_MS = 10_000;

export interface PortWorkerOptions {
  key: PortKey;
  gateway: BindingGateway;
  leaseSeconds: number;
  /** Its mapping may be there already: from before a restart of this process. */
  isOld: boolean;
  description: () => string;
  /** What is known or wanted has changed. */
  onChange: () => void;
}

/** Brings one port of the gateway to what is wanted of it: one call at a time, the last wish counts. */
export class PortWorker {
  readonly key: PortKey;
  readonly #options: PortWorkerOptions;
  #wanted = false;
  #knowledge: Knowledge;
  #error: PortmapError | undefined;
  #expiresAtMs: number | undefined;
  #isRenewalDue = false;
  /** Also what is under way may be about a gateway that is no more. */
  #isDoubted = false;
  #running: Promise<void> | undefined;
  /** The call that is under way, which is of no use any more when the wish turns. */
  #call: { isFor: boolean; withdrawal: AbortController } | undefined;
  /** When the knowledge changed last. */
  #knownSinceMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #retryMs = FIRST_RETRY_MS;
  #isStopped = false;

  constructor(options: PortWorkerOptions) {
    this.key = options.key;
    this.#options = options;
    this.#knowledge = options.isOld ? "unsure" : "absent";
  }

  get isWanted(): boolean {
    return this.#wanted;
  }

  get isMapped(): boolean {
    return this.#knowledge === "mapped";
  }

  /** Nobody wants it, and it is certainly not there. */
  get isOver(): boolean {
    return !this.#wanted && this.#knowledge === "absent" && !this.#running;
  }

  /** Why the newest attempt failed. */
  get error(): PortmapError | undefined {
    return this.#error;
  }

  /** Milliseconds since 1970; undefined for a mapping without an end, or none. */
  get expiresAtMs(): number | undefined {
    return this.isMapped ? this.#expiresAtMs : undefined;
  }

  /** The port is to be mapped. Resolves after the next attempt, or at once when it is. */
  async want(): Promise<void> {
    this.wish(true);
    if (this.isMapped && !this.#running) return;
    await this.#run();
    // The call that was under way may have been one to unmap for a former owner.
    if (this.#wanted && !this.isMapped && this.#error === undefined) await this.#run();
  }

  /** The port is not to be mapped any more. */
  drop(): void {
    this.wish(false);
    void this.#run();
  }

  /** What {@link want} and {@link drop} say, without doing anything about it yet. */
  wish(isWanted: boolean): void {
    this.#wanted = isWanted;
    // A call that still waits for its turn ends, and leaves everything as it was. Any other goes on.
    if (this.#call && this.#call.isFor !== isWanted) this.#call.withdrawal.abort();
  }

  /** The gateway was seen after that time (`performance.now()`) with such an entry, or (undefined) without one. */
  confirm(entry: Mapping | undefined, isOurs: boolean, sinceMs: number): void {
    if (this.#running || this.#knownSinceMs > sinceMs) return;
    if (entry && isOurs) {
      this.#learn(entry.lifetimeSeconds);
    } else {
      this.#know("absent");
      if (entry) {
        const { internalAddress: holder } = entry;
        this.#error = new PortmapError("conflict", `the port belongs to ${holder}`, { holder });
        return;
      }
    }
    void this.#run();
  }

  /** Everything known about the gateway may be wrong: looks after the port at once. */
  doubt(): void {
    this.#retryMs = FIRST_RETRY_MS;
    this.#isDoubted = true;
    void this.#run();
  }

  /** Settles when nothing is under way. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  stop(): void {
    this.#isStopped = true;
    this.#call?.withdrawal.abort();
    clearTimeout(this.#timer);
  }

  #run(): Promise<void> {
    if (this.#isStopped) return Promise.resolve();
    this.#running ??= this.#work().finally(() => {
      this.#running = undefined;
      this.#schedule();
      this.#options.onChange();
    });
    return this.#running;
  }

  async #work(): Promise<void> {
    this.#error = undefined;
    clearTimeout(this.#timer);
    while (!this.#isStopped) {
      if (this.#isDoubted) {
        this.#isDoubted = false;
        this.#know("unsure");
        this.#error = undefined;
      }
      if (this.#error) return;
      if (this.#wanted && (this.#knowledge !== "mapped" || this.#isRenewalDue))
        await this.#attempt(true, (options) => this.#map(options));
      else if (!this.#wanted && this.#knowledge !== "absent")
        await this.#attempt(false, (options) => this.#unmap(options));
      else return;
    }
  }

  async #map(call: CallOptions): Promise<void> {
    const { gateway, leaseSeconds, description } = this.#options;
    const { protocol, port } = this.key;
    const request = { protocol, internalPort: port, lifetimeSeconds: leaseSeconds, description: description() };
    const { lifetimeSeconds } = await gateway.map(request, { ...call, background: this.#isRenewalDue });
    this.#learn(lifetimeSeconds);
  }

  async #unmap(call: CallOptions): Promise<void> {
    const { protocol, port } = this.key;
    await this.#options.gateway.unmap({ protocol, externalPort: port }, { ...call, background: true });
    this.#know("absent");
  }

  async #attempt(isFor: boolean, act: (call: CallOptions) => Promise<void>): Promise<void> {
    const withdrawal = new AbortController();
    this.#call = { isFor, withdrawal };
    try {
      await act({ withdraw: withdrawal.signal, timeoutMs: CALL_TIMEOUT_MS });
      this.#retryMs = FIRST_RETRY_MS;
    } catch (error) {
      const failure = error instanceof PortmapError ? error : new PortmapError("failed", undefined, { cause: error });
      // Its turn did not come before its time was over, or before the wish turned: it stands in line again, if it still has to.
      if (failure.untouched) return;
      const isForeign = failure.code === "conflict" || failure.code === "other-port";
      // Silence does not say whether the call had its effect; a refusal says that it had none.
      const isSilence = failure.gatewayCode === undefined;
      if (isForeign) this.#know("absent");
      else if (isSilence || this.#knowledge === "mapped") this.#know("unsure");
      // To remove what is another host's is nothing that was to be done.
      if (this.#wanted || !isForeign) this.#error = failure;
    } finally {
      this.#call = undefined;
    }
  }

  #know(knowledge: Knowledge): void {
    this.#knowledge = knowledge;
    this.#knownSinceMs = performance.now();
  }

  #learn(lifetimeSeconds: number): void {
    this.#know("mapped");
    this.#error = undefined;
    this.#isRenewalDue = false;
    this.#expiresAtMs = lifetimeSeconds === 0 ? undefined : Date.now() + lifetimeSeconds * 1000;
    this.#schedule();
  }

  /** Renews at half of the lease; tries again what failed, with or without a word from the gateway. */
  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#isStopped || this.isOver) return;
    if (this.#error) {
      this.#timer = setTimeout(() => void this.#run(), this.#retryMs).unref();
      this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
    } else if (this.isMapped && this.#expiresAtMs !== undefined) {
      const halfMs = Math.max(0, (this.#expiresAtMs - Date.now()) / 2);
      this.#timer = setTimeout(() => {
        this.#isRenewalDue = true;
        void this.#run();
      }, halfMs).unref();
    }
  }
}

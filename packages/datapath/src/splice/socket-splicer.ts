import { type Pump, thePump } from "@isthmus/native/pump";
import type { AllocationLimits, Code } from "@isthmus/protocol";
import { PumpedSplice } from "./pumped-splice.ts";
import { resetSocket } from "./reset-socket.ts";
import { Splice } from "./splice.ts";
import { SpliceAccount } from "./splice-account.ts";
import type { SpliceTally } from "./tally.ts";
import type { Leg } from "./waiting-leg.ts";

export interface SpliceRequest {
  allocation: string;
  /** Of side 0, of side 1. */
  legs: readonly [Leg, Leg];
  /** Absent at the stream endpoint. */
  cell?: number;
  /** Counts for whoever asks. */
  tally: SpliceTally;
  onPaired?: (splice: number) => void;
  onClosed?: (splice: number, code: Code) => void;
}

/**
 * Joins sockets in user space, wherever the legs of an allocation met, and holds all of them to its limits: the cells of
 * the `userspace` driver and the stream endpoint of the relay share one of these.
 *
 * The pump moves the bytes where there is one (the native add-on is loaded); otherwise this thread does.
 */
export class SocketSplicer {
  readonly #pump: Pump | undefined;
  readonly #accounts = new Map<string, SpliceAccount>();
  #ids = 0;

  /** @param options.pump by default this process's, if it has one */
  constructor({ pump }: { pump?: Pump | undefined } = { pump: thePump() }) {
    this.#pump = pump;
  }

  /** Makes the allocation's account, or gives it new limits. */
  open(allocation: string, limits: AllocationLimits): SpliceAccount {
    const known = this.#accounts.get(allocation);
    if (known) {
      known.limits = limits;
      return known;
    }
    const account = new SpliceAccount(allocation, limits, this.#pump?.createAccount());
    this.#accounts.set(allocation, account);
    return account;
  }

  account(allocation: string): SpliceAccount | undefined {
    return this.#accounts.get(allocation);
  }

  /** A number for a splice that is made elsewhere but belongs to an account of this one. */
  nextId(): number {
    return ++this.#ids;
  }

  /** @returns nothing, or why it was refused: both legs are reset then, and the refusal is counted */
  splice({ allocation, legs, cell, tally, onPaired, onClosed }: SpliceRequest): Code | undefined {
    const account = this.#accounts.get(allocation);
    if (!account || account.isFull) {
      const code = account ? "splice-limit" : "unknown-allocation";
      tally.countClosed(code);
      for (const { socket } of legs) {
        socket.on("error", ignore);
        resetSocket(socket);
      }
      return code;
    }
    const id = this.nextId();
    const options = { id, cell, account, tally, onClosed: (code: Code) => onClosed?.(id, code) };
    onPaired?.(id);
    const { pumpAccount } = account;
    if (this.#pump && pumpAccount && PumpedSplice.start({ ...options, pump: this.#pump, pumpAccount, legs })) {
      return undefined;
    }
    new Splice({ ...options, sockets: [legs[0].socket, legs[1].socket] }).start(legs);
    return undefined;
  }

  /** Ends every splice of the allocation and forgets it. */
  close(allocation: string, code: Code): void {
    const account = this.#accounts.get(allocation);
    this.#accounts.delete(allocation);
    account?.endAll(code);
  }
}

function ignore(): void {}

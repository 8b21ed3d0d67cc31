import { SealedControl } from "./control/sealed-control.ts";
import type { Generation } from "./keys/generation.ts";
import type { AnswererStream } from "./open/answerer-stream.ts";
import { IdWindow } from "./open/id-window.ts";
import type { OpenerStream } from "./open/opener-stream.ts";

/** Keys, ids and streams of one handshake. */
export class GenerationState {
  readonly generation: Generation;
  readonly control: SealedControl;
  readonly openers = new Map<number, OpenerStream>();
  readonly answerers = new Map<number, AnswererStream>();
  /** Ids of opens and of flows that the peer used. */
  readonly peerOpens = new IdWindow();
  readonly peerFlows = new IdWindow();
  /** The peer has shown that it holds these keys. The initiator knows it from the handshake. */
  isProved: boolean;
  #nextOpen: number;
  #nextFlow: number;

  constructor(generation: Generation) {
    this.generation = generation;
    this.control = new SealedControl(generation);
    this.isProved = generation.role === 0;
    this.#nextOpen = generation.role;
    this.#nextFlow = generation.role;
  }

  nextOpenId(): number {
    const id = this.#nextOpen;
    this.#nextOpen += 2;
    return id;
  }

  nextFlowId(): number {
    const id = this.#nextFlow;
    this.#nextFlow += 2;
    return id;
  }
}

import { availableParallelism } from "node:os";

/** What the C halves of the pump and of the relay of datagrams have in common (c/engine-part.h). */
export interface ThreadedEngine {
  /** Makes sure of a free slot. @returns how many blocks of counters there are; a block never moves */
  reserve(): number;
  /** Of a whole block. */
  counters(block: number): ArrayBuffer;
  /** Milliseconds of the clock in which counters tell the time. */
  now(): number;
}

/** More threads than this only get in the way of each other. */
const MOST_THREADS = 4;
/** Threads to start an engine with. */
export const ENGINE_THREADS = Math.min(MOST_THREADS, availableParallelism());

/** What an engine counts by slots, to be read without a call. */
export class SlotCounters {
  readonly #engine: ThreadedEngine;
  readonly #shape: { readonly words: number; readonly perBlock: number };
  readonly #blocks: Float64Array[] = [];
  /** What is to be added to the engine's clock for `performance.now()`. */
  readonly clockOffset: number;

  /** @param shape doubles of one slot, and slots of a block */
  constructor(engine: ThreadedEngine, shape: { readonly words: number; readonly perBlock: number }) {
    this.#engine = engine;
    this.#shape = shape;
    this.clockOffset = performance.now() - engine.now();
  }

  /**
   * To be called before the engine takes a slot, so that nothing can fail once it has.
   * @throws Error with a system's code (ENOMEM)
   */
  reserve(): void {
    const count = this.#engine.reserve();
    while (this.#blocks.length < count) {
      this.#blocks.push(new Float64Array(this.#engine.counters(this.#blocks.length)));
    }
  }

  /** Of a slot that the engine has taken since {@link reserve}. */
  of(slot: number): Float64Array {
    const { words, perBlock } = this.#shape;
    const at = (slot % perBlock) * words;
    return this.#blocks[Math.floor(slot / perBlock)]!.subarray(at, at + words);
  }
}

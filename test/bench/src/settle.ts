import { setTimeout } from "node:timers/promises";
import type { Program } from "@isthmus/lab";

const LOOK_EVERY_MS = 1000;
/** Long enough for the collector, which looks at a process that became idle some seconds later. */
const STEADY_MS = 8000;
const MOST_MS = 45_000;
/** Less is no change. */
const NOISE_BYTES = 512 * 1024;

/** Waits until the programs' resident memory does not fall any more. @returns bytes of each, in the same order */
export async function settledMemory(programs: readonly Program[]): Promise<number[]> {
  const started = performance.now();
  let least = memoryOf(programs);
  let leastAt = started;
  for (;;) {
    await setTimeout(LOOK_EVERY_MS);
    const now = performance.now();
    const present = memoryOf(programs);
    if (sum(present) < sum(least) - NOISE_BYTES) {
      least = present;
      leastAt = now;
    }
    if (now - leastAt > STEADY_MS || now - started > MOST_MS) return present;
  }
}

function memoryOf(programs: readonly Program[]): number[] {
  return programs.map((program) => program.resources().rssBytes);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

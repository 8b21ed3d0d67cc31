import { setTimeout as sleep } from "node:timers/promises";

/** Asks again, every now and then, until the answer is no error: for what announces itself by no event. */
export async function eventually<T>(ask: () => T | Promise<T>, deadlineMs = 15_000): Promise<T> {
  const end = performance.now() + deadlineMs;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (performance.now() > end) throw error;
      await sleep(50);
    }
  }
}

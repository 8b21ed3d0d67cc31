const DEADLINE_MS = 15_000;

/** Lets things happen until it is so, where timers stand still. @throws Error when it takes too long */
export async function turnsUntil(isSo: () => boolean): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!isSo()) {
    if (performance.now() > deadline) throw new Error(`it is not so: ${isSo.toString()}`);
    await new Promise(setImmediate);
  }
}

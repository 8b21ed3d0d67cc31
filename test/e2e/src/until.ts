const PAUSE_MS = 50;

/**
 * Asks again and again until there is an answer, for what can only be asked: a status, a page.
 * @throws Error that says what was waited for, and the last failure
 */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined> | T | undefined,
  timeoutMs = 40_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let failure: unknown;
  do {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
      failure = undefined;
    } catch (error) {
      failure = error;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    setTimeout(resolve, PAUSE_MS);
    await promise;
  } while (performance.now() < deadline);
  const why = failure === undefined ? "" : `: ${(failure as Error).message}`;
  throw new Error(`${what}: not within ${timeoutMs} ms${why}`, { cause: failure });
}

import type { CallOptions } from "./gateway.ts";
import { PortmapError } from "./portmap-error.ts";

/** Long enough for a slow router; callers that cannot wait give less. */
const CALL_TIMEOUT_MS = 3000;

/** Aborts when the caller gives up or the call's time is over. */
export function deadline({ signal, timeoutMs = CALL_TIMEOUT_MS }: CallOptions = {}): AbortSignal {
  const timeout = AbortSignal.timeout(timeoutMs);
  return signal ? AbortSignal.any([signal, timeout]) : timeout;
}

/** What an aborted signal means to the caller. */
export function abortError(signal: AbortSignal, options: { untouched?: boolean } = {}): PortmapError {
  const isLate = signal.reason instanceof DOMException && signal.reason.name === "TimeoutError";
  return new PortmapError(isLate ? "timeout" : "aborted", undefined, { cause: signal.reason, ...options });
}

/** Calls `act` once when the signal aborts, also when it already has. Returns what takes it back. */
export function onAbort(signal: AbortSignal, act: () => void): () => void {
  if (signal.aborted) act();
  else signal.addEventListener("abort", act, { once: true });
  return () => signal.removeEventListener("abort", act);
}

/** The promise's outcome, or the signal's when it aborts first. The work behind the promise goes on. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const release = onAbort(signal, () => reject(abortError(signal)));
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    release();
  }
}

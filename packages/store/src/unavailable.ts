import { IsthmusError } from "@isthmus/protocol";

/**
 * The peer is told only that the store is away; `detail` (a path, an address, the system's words) is for the log. The
 * original error is not carried along: Redis' errors hold the command with the record in it.
 */
export function unavailable(detail: string): IsthmusError {
  return new IsthmusError("store-unavailable", undefined, { cause: new Error(detail) });
}

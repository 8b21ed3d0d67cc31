import { CODES, type Code, IsthmusError } from "@isthmus/protocol";

/** What a provider's daemon may say of an `ask`, passed on as it is. */
const PASSED_ON: ReadonlySet<Code> = new Set<Code>([
  "not-allowed",
  "unknown-service",
  "no-such-service",
  "plain-refused",
  "provider-refused",
  "handshake-failed",
  "unsupported-version",
  "too-many",
  "rate-limited",
  "shutting-down",
  "store-unavailable",
]);

/**
 * A provider's refusal, as the subscriber is told. Other codes than those above would speak of the subscriber's own
 * login or session, so that a malicious provider could mislead its daemon.
 */
export function relayedRefusal(error: IsthmusError): IsthmusError {
  if (PASSED_ON.has(error.code)) return error;
  if (error.code === "timeout") return new IsthmusError("timeout", "the provider's daemon did not answer in time");
  return new IsthmusError("provider-refused", `the provider refused: ${CODES[error.code].text}`);
}

/**
 * The one list of reasons: why a request was refused, a session closed, an open failed, a splice ended. Each is a
 * stable word on the wire, a counter in the process that says it, and a row of the reference. `retry` says whether
 * asking again, with nothing changed by the user, can succeed.
 */
export const CODES = {
  // Anything that speaks the protocol
  "bad-message": { retry: false, text: "the message is not of the agreed form" },
  "too-large": { retry: false, text: "the message is larger than the limit" },
  "unknown-type": { retry: false, text: "this side does not know requests of that type" },
  "unsupported-version": { retry: false, text: "no version of the protocol is common to both sides" },
  "bad-request": { retry: false, text: "a value in the request is not acceptable" },
  "rate-limited": { retry: true, text: "too many requests from this address or user" },
  internal: { retry: true, text: "the other side met an error of its own; its log says which" },
  timeout: { retry: true, text: "no answer came in time" },
  "shutting-down": { retry: true, text: "the process is stopping" },
  disconnected: { retry: true, text: "the session ended before the answer" },

  // Sessions and logins
  "login-timeout": { retry: true, text: "the login was not completed in time" },
  "not-logged-in": { retry: true, text: "no session to the broker is up" },
  "wrong-server-key": { retry: false, text: "the server's key is not the one expected" },
  "wrong-certificate": {
    retry: false,
    text: "the server's certificate is neither trusted by the system nor the pinned one",
  },
  "wrong-origin": { retry: false, text: "the login was signed for another address than this server's" },
  "bad-signature": { retry: false, text: "the signature does not fit the key" },
  "unknown-device": { retry: false, text: "no user owns this device key" },
  "device-revoked": { retry: false, text: "this device key was revoked" },
  "user-disabled": { retry: false, text: "this user may not log in" },
  "invite-invalid": { retry: false, text: "the invite is unknown, used up or expired" },
  superseded: { retry: false, text: "the same device logged in again" },
  "too-many-sessions": { retry: true, text: "the server holds as many sessions as it may" },
  "slow-reader": { retry: true, text: "the peer did not read what was sent to it in time" },
  silent: { retry: true, text: "nothing was heard from the peer for too long" },
  replaced: { retry: true, text: "a newer one took its place" },
  closed: { retry: true, text: "the peer closed the connection" },

  // Directory and services
  "unknown-user": { retry: false, text: "there is no such user" },
  "unknown-service": { retry: false, text: "that user provides no service of this name" },
  "provider-away": { retry: true, text: "the provider is not logged in" },
  "not-allowed": { retry: false, text: "this user is not on the service's list" },
  "name-taken": { retry: false, text: "another device of this user owns the service name" },
  "too-many": { retry: false, text: "the device declares more than it may" },
  "no-such-subscription": { retry: false, text: "there is no such subscription" },
  "no-such-service": { retry: false, text: "this device provides no service of that name" },
  "port-taken": { retry: false, text: "the local port is in use" },
  "probes-off": { retry: false, text: "this ISB probes no ports: it does not see where its sessions come from" },

  // Negotiation, keys and grants
  "peer-key-changed": { retry: false, text: "the peer's key is not the pinned one" },
  "handshake-failed": { retry: false, text: "the key agreement with the peer failed" },
  "plain-refused": { retry: false, text: "service and subscription must both consent to unencrypted data" },
  "provider-refused": { retry: true, text: "the provider refused" },
  "no-ist": { retry: true, text: "no IST with room is logged in" },
  "ist-full": { retry: true, text: "the IST cannot take another allocation" },
  "unknown-allocation": { retry: true, text: "the IST does not know this allocation" },
  "bad-ticket": { retry: false, text: "the ticket does not fit the allocation or the device" },
  "grant-invalid": { retry: false, text: "the grant is not signed by the broker, or is for something else" },
  "grant-expired": { retry: true, text: "the grant has expired" },
  "unknown-generation": { retry: true, text: "the peer does not hold these link keys" },
  revoked: { retry: false, text: "the right to use the service was withdrawn" },

  // Opens, legs and flows
  "service-down": { retry: true, text: "the service's own port refused or did not answer" },
  "open-timeout": { retry: true, text: "the two legs did not meet in time" },
  "no-path": { retry: true, text: "no path to the peer is up" },
  "already-joined": { retry: false, text: "this open was joined before on another leg" },
  "repeated-open": { retry: false, text: "an open of this id was seen before" },
  "unsupported-rendezvous": { retry: true, text: "this side cannot meet in that way" },
  "unknown-channel": { retry: false, text: "the service has no such channel, or none in this direction" },
  "bad-preface": { retry: true, text: "the leg did not start with the peer's preface" },
  "bad-record": { retry: false, text: "a record was forged, cut or malformed" },
  "leg-lost": { retry: false, text: "the connection ended without its sealed end" },
  "application-reset": { retry: false, text: "the application reset its connection" },
  cancelled: { retry: true, text: "the opener gave up" },
  "too-many-opens": { retry: true, text: "as many connections are open as may be" },

  // At an IST
  stranger: { retry: false, text: "the source address is not expected at this cell" },
  "bad-leg-header": { retry: false, text: "the connection did not start with a valid leg header" },
  "no-peer-leg": { retry: true, text: "the other side's leg did not come in time" },
  "idle-limit": { retry: true, text: "nothing was sent for the idle time" },
  "time-limit": { retry: true, text: "the splice reached its longest time" },
  "byte-limit": { retry: true, text: "the splice reached its number of bytes" },
  "splice-limit": { retry: true, text: "the allocation holds as many splices as it may" },
  "cell-limit": { retry: true, text: "the allocation holds as many cells as it may" },
  "cell-busy": { retry: true, text: "the cell is in use" },
  "not-joined": { retry: true, text: "neither or only one side joined the allocation in time" },
  released: { retry: true, text: "the allocation was released" },
  drained: { retry: true, text: "the IST is draining" },
  reset: { retry: true, text: "one side reset its leg" },
  finished: { retry: false, text: "both sides ended the stream" },

  // Store
  "store-unavailable": { retry: true, text: "the store cannot be written at the moment" },
  conflict: { retry: true, text: "the record was changed by somebody else meanwhile" },
} as const satisfies Record<string, { retry: boolean; text: string }>;

export type Code = keyof typeof CODES;

export function isCode(text: string): text is Code {
  return Object.hasOwn(CODES, text);
}

/** An error that a peer or a user may see: a stable code and one sentence, never a stack. */
export class IsthmusError extends Error {
  readonly code: Code;
  /** Milliseconds after which asking again makes sense, where the sender knows. */
  readonly retryAfterMs?: number;

  constructor(
    code: Code,
    message: string = CODES[code].text,
    options: { cause?: unknown; retryAfterMs?: number } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = "IsthmusError";
    this.code = code;
    if (options.retryAfterMs !== undefined) this.retryAfterMs = options.retryAfterMs;
  }
}

/** What a peer is told about any failure: our own errors by their code, everything else as `internal`. */
export function toIsthmusError(error: unknown): IsthmusError {
  return error instanceof IsthmusError ? error : new IsthmusError("internal", undefined, { cause: error });
}

export { BACKOFF_TO_ISB, BACKOFF_TO_IST, Backoff, type BackoffOptions } from "./backoff.ts";
export { SessionClient, type SessionClientOptions, type SessionState, type SessionTarget } from "./client.ts";
export { SESSION_PATH } from "./dial.ts";
export { SessionGate, type SessionGateOptions } from "./gate.ts";
export { signGrant, verifyGrant } from "./grant.ts";
export type { LoginReply } from "./login-client.ts";
export { type LoginAttempt, type LoginVerdict, Session, SessionServer, type SessionServerOptions } from "./server.ts";
export { type Rate, TokenBuckets } from "./token-bucket.ts";
export { type Handlers, newRequestId, type WireEvent, type WireHooks } from "./wire.ts";

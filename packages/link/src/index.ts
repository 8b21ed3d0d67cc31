export { Generation } from "./keys/generation.ts";
export { createStaticKey, Initiator, respond } from "./keys/handshake.ts";
export { AnswererStream } from "./open/answerer-stream.ts";
export { CellPool } from "./open/cell-pool.ts";
export { IdWindow } from "./open/id-window.ts";
export { attemptTimeoutMs, OPEN_DEADLINE_MS } from "./open/opener.ts";
export { OpenerStream } from "./open/opener-stream.ts";
export { type Endpoint, Leg, type OpenMessage, Stream, type StreamEnvironment, type StreamMessage } from "./open/stream.ts";

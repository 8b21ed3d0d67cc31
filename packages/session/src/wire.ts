import { randomBytes } from "node:crypto";
import {
  type Code,
  type EventBody,
  type EventInput,
  type EventName,
  errorFrameOf,
  eventFrame,
  type Frame,
  IsthmusError,
  isCode,
  LIMITS,
  okFrame,
  parseFrame,
  parseReply,
  type ReplyBody,
  type ReplyInput,
  type RequestBody,
  type RequestInput,
  type RequestKind,
  type RequestName,
  requestFrame,
  toIsthmusError,
  type Vocabulary,
} from "@isthmus/protocol";
import type { WebSocket } from "ws";

/** WebSocket close code of every close that has a reason of ours; the reason text is the code's word. */
const CLOSE_BY_NAME = 4000;

/** Above this many unsent bytes a session gets no further pushes, only one snapshot when it has drained. */
export const PUSH_LIMIT_BYTES = 256 * 1024;
/** Above this many unsent bytes, or with unsent pushes this long, a session is closed as `slow-reader`. */
export const BUFFER_LIMIT_BYTES = 1024 * 1024;
export const CONGESTION_LIMIT_MS = 30_000;

const REQUEST_TIMEOUT_MS = 15_000;
/** How long the peer may take to answer a goodbye; then the connection is cut. */
export const CLOSE_TIMEOUT_MS = 2000;

export type Handlers<V extends Vocabulary, Owner> = {
  requests: {
    [N in RequestName<V>]: (
      owner: Owner,
      body: RequestBody<V, N>,
      requestId: string,
    ) => Promise<ReplyInput<V, N>> | ReplyInput<V, N>;
  };
  events: { [N in EventName<V>]: (owner: Owner, body: EventBody<V, N>) => void };
  binary?: (owner: Owner, frame: Buffer) => void;
};

/** What happened on a wire, for counters. */
export type WireEvent = "request" | "event" | "binary" | "refused" | "dropped";

/** What a wire tells its owner; one object serves all sessions of a server. */
export interface WireHooks<Owner> {
  observe?: (owner: Owner, event: WireEvent, type: string) => void;
  /** Pushes were left out and there is room again: the moment to send a snapshot. */
  drained?: (owner: Owner) => void;
  /** Runs a request's handler, or answers in its place: limits and remembered answers. */
  intercept?: (owner: Owner, type: string, requestId: string, run: () => unknown) => unknown;
  /** A handler failed by a fault of this process: the peer sees `internal`, the log shall see the rest. */
  internalError?: (owner: Owner, type: string, error: unknown) => void;
}

/** The handlers with their types taken off: a frame's type was checked against the vocabulary when it was parsed. */
interface AnyHandlers {
  requests: Record<string, (owner: unknown, body: unknown, requestId: string) => unknown>;
  events: Record<string, (owner: unknown, body: unknown) => void>;
  binary?: (owner: unknown, frame: Buffer) => void;
}

interface Pending {
  type: string;
  kind: RequestKind;
  resolve: (body: never) => void;
  reject: (error: IsthmusError) => void;
  timer: NodeJS.Timeout;
}

/**
 * Requests, answers, events and binary frames over one open WebSocket, the same at both ends. A session that idles
 * holds nothing but the socket and this object.
 */
export class Wire<Say extends Vocabulary, Hear extends Vocabulary> {
  readonly #socket: WebSocket;
  readonly #say: Say;
  readonly #hear: Hear;
  readonly #handlers: AnyHandlers;
  // biome-ignore lint/suspicious/noExplicitAny: the owner's type matters to handlers and hooks alone
  readonly #hooks: WireHooks<any>;
  readonly #owner: unknown;
  #pending: Map<string, Pending> | undefined;
  #congestedSince: number | undefined;
  #closing: Code | undefined;

  constructor(options: {
    socket: WebSocket;
    say: Say;
    hear: Hear;
    // biome-ignore lint/suspicious/noExplicitAny: the owner's type matters to handlers and hooks alone
    handlers: Handlers<Hear, any>;
    // biome-ignore lint/suspicious/noExplicitAny: the same
    hooks: WireHooks<any>;
    owner: unknown;
  }) {
    this.#socket = options.socket;
    this.#say = options.say;
    this.#hear = options.hear;
    this.#handlers = options.handlers as unknown as AnyHandlers;
    this.#hooks = options.hooks;
    this.#owner = options.owner;
  }

  /**
   * @throws IsthmusError what the peer answered, `timeout`, `disconnected`, or `too-large` for a body above the limit
   * @param options.id the id of an earlier, unanswered request that this one repeats
   */
  request<N extends RequestName<Say>>(
    type: N,
    body: RequestInput<Say, N>,
    options: { timeoutMs?: number; id?: string } = {},
  ): Promise<ReplyBody<Say, N>> {
    if (this.#socket.readyState !== this.#socket.OPEN) return Promise.reject(new IsthmusError("disconnected"));
    const id = options.id ?? newRequestId();
    const kind = this.#say.requests[type] as RequestKind;
    const frame = requestFrame(type, id, body as Record<string, unknown>);
    if (!fits(frame)) return Promise.reject(new IsthmusError("too-large", `${type} is larger than a frame may be`));
    this.#pending ??= new Map();
    const { promise, resolve, reject } = Promise.withResolvers<ReplyBody<Say, N>>();
    const timer = setTimeout(() => {
      // A repeat of the request may wait under the same id by now.
      if (this.#pending?.get(id) === entry) this.#pending.delete(id);
      reject(new IsthmusError("timeout", `no answer to ${type}`));
    }, options.timeoutMs ?? REQUEST_TIMEOUT_MS);
    const entry: Pending = { type, kind, resolve: resolve as Pending["resolve"], reject, timer };
    this.#pending.set(id, entry);
    this.#write(frame);
    return promise;
  }

  event<N extends EventName<Say>>(type: N, body: EventInput<Say, N>): void {
    const frame = eventFrame(type, body as Record<string, unknown>);
    if (fits(frame)) this.#write(frame);
    else this.#hooks.internalError?.(this.#owner, type, new IsthmusError("too-large"));
  }

  /**
   * An event that a later snapshot can make up for.
   * @returns false if it was left out because the peer reads too slowly; the hook `drained` follows
   */
  push<N extends EventName<Say>>(type: N, body: EventInput<Say, N>): boolean {
    if (this.#congestedSince !== undefined) return false;
    if (this.#socket.bufferedAmount > PUSH_LIMIT_BYTES) {
      this.#congestedSince = performance.now();
      return false;
    }
    this.event(type, body);
    return true;
  }

  binary(frame: Uint8Array): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#socket.send(frame, { binary: true });
    this.#checkBuffer();
  }

  /** Looks after a congested socket; to be called about once a second. @param now of `performance.now()` */
  checkCongestion(now: number): void {
    if (this.#congestedSince === undefined) return;
    if (this.#socket.bufferedAmount === 0) {
      this.#congestedSince = undefined;
      this.#hooks.drained?.(this.#owner);
    } else if (now - this.#congestedSince > CONGESTION_LIMIT_MS) {
      this.terminate("slow-reader");
    }
  }

  /** Says goodbye. Nothing that the peer says is heard from now on, so open requests fail. */
  close(code: Code): void {
    this.#closing ??= code;
    closeByName(this.#socket, code);
    this.#failPending();
  }

  /** Cuts the connection: the peer is not there to read a goodbye. */
  terminate(code: Code): void {
    this.#closing ??= code;
    this.#socket.terminate();
  }

  /**
   * To be called once, when the socket has closed: open requests fail.
   * @returns why: this side's reason if it closed, else the peer's
   */
  closed(closeCode: number, reason: Buffer): Code {
    this.#failPending();
    return this.#closing ?? closeReason(closeCode, reason);
  }

  #failPending(): void {
    const pending = this.#pending;
    this.#pending = undefined;
    for (const { reject, timer } of pending?.values() ?? []) {
      clearTimeout(timer);
      reject(new IsthmusError("disconnected"));
    }
  }

  /** Takes one message from the socket. A message that breaks the rules ends the session. */
  receive(data: Buffer, isBinary: boolean): void {
    // What a superseded or misbehaving peer says until it has read the goodbye has no effect any more.
    if (this.#closing !== undefined) return;
    if (isBinary) {
      this.#observe("binary", "binary");
      const { binary } = this.#handlers;
      if (binary) this.#handle("binary", () => binary(this.#owner, data));
      else this.close("bad-message");
      return;
    }
    let frame: Frame;
    try {
      frame = parseFrame(data.toString("utf8"), this.#hear);
    } catch (error) {
      this.#observe("refused", "malformed");
      this.close(toIsthmusError(error).code);
      return;
    }
    switch (frame.kind) {
      case "request":
        this.#observe("request", frame.type);
        this.#answer(frame.type, frame.id, frame.body);
        break;
      case "event":
        this.#observe("event", frame.type);
        this.#handle(frame.type, () => this.#handlers.events[frame.type]!(this.#owner, frame.body));
        break;
      case "ok":
      case "error":
        this.#settle(frame);
        break;
      case "unknown-request":
        this.#observe("refused", "unknown-type");
        this.#write(errorFrameOf(frame.id, new IsthmusError("unknown-type")));
        break;
      case "bad-request":
        this.#observe("refused", frame.type);
        this.#write(errorFrameOf(frame.id, frame.error));
        break;
      case "unknown-event":
        this.#observe("dropped", "unknown-type");
        break;
    }
  }

  #answer(type: string, id: string, body: Record<string, unknown>): void {
    const fail = (error: unknown): void => {
      const known = toIsthmusError(error);
      if (known.code === "internal") this.#hooks.internalError?.(this.#owner, type, error);
      this.#write(errorFrameOf(id, known));
    };
    const reply = (body: unknown): void => {
      const frame = okFrame(id, body as Record<string, unknown>);
      if (fits(frame)) this.#write(frame);
      else fail(new IsthmusError("too-large", `the answer to ${type} is larger than a frame may be`));
    };
    try {
      const run = (): unknown => this.#handlers.requests[type]!(this.#owner, body, id);
      const result = this.#hooks.intercept ? this.#hooks.intercept(this.#owner, type, id, run) : run();
      if (result instanceof Promise) result.then(reply).catch(fail);
      else reply(result);
    } catch (error) {
      fail(error);
    }
  }

  /** Nobody waits for what an event's handler makes of it; its failure must not end the process. */
  #handle(type: string, run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#observe("refused", type);
      if (toIsthmusError(error).code === "internal") this.#hooks.internalError?.(this.#owner, type, error);
    }
  }

  #observe(event: WireEvent, type: string): void {
    this.#hooks.observe?.(this.#owner, event, type);
  }

  #settle(frame: Extract<Frame, { kind: "ok" | "error" }>): void {
    const pending = this.#pending?.get(frame.re);
    // An answer that came after its time-out is of no use to anybody.
    if (!pending) return;
    this.#pending?.delete(frame.re);
    clearTimeout(pending.timer);
    if (frame.kind === "error") {
      pending.reject(frame.error);
      return;
    }
    try {
      pending.resolve(parseReply(pending.kind, pending.type, frame.body) as never);
    } catch (error) {
      pending.reject(toIsthmusError(error));
    }
  }

  #write(text: string): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#socket.send(text);
    this.#checkBuffer();
  }

  #checkBuffer(): void {
    // A goodbye would wait behind what the peer does not read.
    if (this.#socket.bufferedAmount > BUFFER_LIMIT_BYTES) this.terminate("slow-reader");
  }
}

/** Whether the peer takes a frame of this length: a longer one would cost the session, and again the next one. */
function fits(frame: string): boolean {
  // No character takes more than three bytes of UTF-8 for each unit of its length.
  return frame.length * 3 <= LIMITS.sessionFrameBytes || Buffer.byteLength(frame) <= LIMITS.sessionFrameBytes;
}

export function newRequestId(): string {
  return randomBytes(16).toString("base64url");
}

/** Says goodbye with a reason; a peer that does not answer it in time is cut off. */
export function closeByName(socket: WebSocket, code: Code): void {
  if (socket.readyState === socket.CLOSED) return;
  if (socket.readyState === socket.CONNECTING) {
    socket.terminate();
    return;
  }
  const timer = setTimeout(() => socket.terminate(), CLOSE_TIMEOUT_MS);
  socket.once("close", () => clearTimeout(timer));
  socket.close(CLOSE_BY_NAME, code);
}

/** The reason that a close frame carried, or `closed` if it carried none of ours. */
export function closeReason(closeCode: number, reason: Buffer): Code {
  const text = reason.toString("utf8");
  if (closeCode === CLOSE_BY_NAME && isCode(text)) return text;
  if (closeCode === 1009) return "too-large";
  return "closed";
}

import {
  type ClientRole,
  type Code,
  type EventInput,
  type EventName,
  IsthmusError,
  type ReplyBody,
  type RequestInput,
  type RequestName,
  type SessionInterface,
} from "@isthmus/protocol";
import type { WebSocket } from "ws";
import { AnswerMemory } from "./answer-memory.ts";
import { type Rate, TokenBuckets } from "./token-bucket.ts";
import { type Handlers, Wire, type WireHooks } from "./wire.ts";

/** Who logs in, as far as the login itself shows; key and origin are proved by its signature. */
export interface LoginAttempt {
  role: ClientRole;
  key: string;
  boot: string;
  origin: string;
  invite?: string | undefined;
  device?: string | undefined;
  /** Source address, canonical, and port. */
  address: string;
  remotePort: number;
}

/** What the server makes of a login. */
export interface LoginVerdict<C> {
  user?: string;
  device?: string;
  context: C;
}

export interface SessionServerOptions<I extends SessionInterface, C> {
  protocol: I;
  clientRole: ClientRole;
  /**
   * Decides who may log in, once the key is proved.
   * @throws IsthmusError the refusal, told to the client
   */
  authorize: (attempt: LoginAttempt) => Promise<LoginVerdict<C>> | LoginVerdict<C>;
  handlers: Handlers<I["toServer"], Session<I, C>>;
  hooks?: Omit<WireHooks<Session<I, C>>, "intercept">;
  /** Requests whose answers are remembered, since carrying them out twice would do something. */
  remember?: readonly RequestName<I["toServer"]>[];
  /** Requests of one session; above it `rate-limited`. */
  requestRate?: Rate;
  onOpen?: (session: Session<I, C>) => void;
  /** Called when the socket is closed: for a superseded session that is after `onOpen` of the one that replaced it. */
  onClose?: (session: Session<I, C>, code: Code) => void;
  /** What clients are told to ping at. */
  heartbeatMs: number;
}

/** Silence of this many heartbeats ends a session. */
const SILENT_HEARTBEATS = 2.5;

/** One client's session at the server. Light: an ISB holds one for every device. */
export class Session<I extends SessionInterface, C> {
  readonly key: string;
  readonly boot: string;
  /** Source address, canonical, and port. */
  readonly address: string;
  readonly remotePort: number;
  readonly context: C;
  readonly wire: Wire<I["toClient"], I["toServer"]>;
  /** When the client last gave a sign of life, by `performance.now()`: setting the wall clock ends no session. */
  lastHeard = performance.now();

  constructor(
    socket: WebSocket,
    login: LoginAttempt,
    context: C,
    options: SessionServerOptions<I, C>,
    hooks: WireHooks<Session<I, C>>,
  ) {
    this.key = login.key;
    this.boot = login.boot;
    this.address = login.address;
    this.remotePort = login.remotePort;
    this.context = context;
    this.wire = new Wire<I["toClient"], I["toServer"]>({
      socket,
      say: options.protocol.toClient,
      hear: options.protocol.toServer,
      handlers: options.handlers,
      hooks,
      owner: this,
    });
  }

  request<N extends RequestName<I["toClient"]>>(
    type: N,
    body: RequestInput<I["toClient"], N>,
    options?: { timeoutMs?: number; id?: string },
  ): Promise<ReplyBody<I["toClient"], N>> {
    return this.wire.request(type, body, options);
  }

  event<N extends EventName<I["toClient"]>>(type: N, body: EventInput<I["toClient"], N>): void {
    this.wire.event(type, body);
  }

  /** See {@link Wire.push}. */
  push<N extends EventName<I["toClient"]>>(type: N, body: EventInput<I["toClient"], N>): boolean {
    return this.wire.push(type, body);
  }

  binary(frame: Uint8Array): void {
    this.wire.binary(frame);
  }

  close(code: Code): void {
    this.wire.close(code);
  }
}

/**
 * The sessions of one kind of client at one server. A key has one session: a second login closes the first as
 * `superseded`.
 */
export class SessionServer<I extends SessionInterface, C> {
  readonly options: SessionServerOptions<I, C>;
  readonly #sessions = new Map<string, Session<I, C>>();
  readonly #answers = new AnswerMemory();
  readonly #requests: TokenBuckets | undefined;
  readonly #remembered: ReadonlySet<string>;
  readonly #hooks: WireHooks<Session<I, C>>;

  constructor(options: SessionServerOptions<I, C>) {
    this.options = options;
    this.#requests = options.requestRate && new TokenBuckets(options.requestRate);
    this.#remembered = new Set(options.remember);
    this.#hooks = { ...options.hooks, intercept: (session, type, id, run) => this.#carryOut(session, type, id, run) };
  }

  get size(): number {
    return this.#sessions.size;
  }

  get(key: string): Session<I, C> | undefined {
    return this.#sessions.get(key);
  }

  all(): Iterable<Session<I, C>> {
    return this.#sessions.values();
  }

  /** Takes a socket whose login is proved and authorised. */
  adopt(socket: WebSocket, login: LoginAttempt, context: C): void {
    const session = new Session<I, C>(socket, login, context, this.options, this.#hooks);
    this.#sessions.get(login.key)?.close("superseded");
    this.#sessions.set(login.key, session);
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      session.lastHeard = performance.now();
      session.wire.receive(data, isBinary);
    });
    socket.on("ping", () => {
      session.lastHeard = performance.now();
    });
    socket.on("close", (closeCode, reason) => {
      const code = session.wire.closed(closeCode, reason);
      if (this.#sessions.get(session.key) === session) this.#sessions.delete(session.key);
      this.options.onClose?.(session, code);
    });
    this.options.onOpen?.(session);
  }

  /** To be called about once a second: ends silent sessions, looks after slow ones. @param now of `performance.now()` */
  sweep(now: number): void {
    const silentMs = this.options.heartbeatMs * SILENT_HEARTBEATS;
    for (const session of this.#sessions.values()) {
      if (now - session.lastHeard > silentMs) session.wire.terminate("silent");
      else session.wire.checkCongestion(now);
    }
    this.#answers.sweep(now);
  }

  #carryOut(session: Session<I, C>, type: string, requestId: string, run: () => unknown): unknown {
    const waitMs = this.#requests?.take(session.key, performance.now()) ?? 0;
    if (waitMs > 0) throw new IsthmusError("rate-limited", undefined, { retryAfterMs: waitMs });
    if (!this.#remembered.has(type)) return run();
    return this.#answers.answer(session.key, requestId, () => performance.now(), run);
  }
}

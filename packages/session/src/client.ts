import {
  type ClientRole,
  CODES,
  type EventInput,
  type EventName,
  IsthmusError,
  LIMITS,
  parseHostPort,
  type ReplyBody,
  type RequestInput,
  type RequestName,
  type ServerRole,
  type SessionInterface,
  toIsthmusError,
} from "@isthmus/protocol";
import type { Identity, Logger } from "@isthmus/service";
import type { WebSocket } from "ws";
import { Backoff, type BackoffOptions } from "./backoff.ts";
import { DIAL_TIMEOUT_MS, dial } from "./dial.ts";
import { type LoggedIn, type LoginReply, logIn } from "./login-client.ts";
import { closeByName, type Handlers, Wire, type WireHooks } from "./wire.ts";

/** How long a ping may take when somebody asks whether a session lives. */
const CHECK_TIMEOUT_MS = 2000;
/** How long a login may take after the dial. */
const LOGIN_TIMEOUT_MS = 10_000;
/** The longest answer time of a heartbeat's ping; where the interval is shorter (at an IST), that is the limit. */
const HEARTBEAT_TIMEOUT_MS = 10_000;

export interface SessionTarget {
  /** Tried in turn. */
  origins: string[];
  expect: { key: string } | { fingerprint: string };
  certificate?: string;
}

export interface SessionClientOptions<I extends SessionInterface> {
  protocol: I;
  identity: Identity;
  role: ClientRole;
  serverRole: ServerRole;
  target: SessionTarget;
  boot: string;
  /** For a key that the server does not know yet; read at each attempt. */
  registration?: () => { invite: string; device?: string } | undefined;
  allowInsecure: boolean;
  backoff: BackoffOptions;
  handlers: Handlers<I["toClient"], SessionClient<I>>;
  hooks?: WireHooks<SessionClient<I>>;
  /**
   * Called after each login, before anybody is told that the session is up: the place to declare the desired state.
   * When it throws, the session is closed and tried again.
   */
  onLogin?: (reply: LoginReply) => Promise<void> | void;
  onUp?: () => void;
  onDown?: (error: IsthmusError) => void;
  logger: Logger;
}

export type SessionState = "connecting" | "up" | "down";

/**
 * One persistent login: dials, logs in, declares, keeps alive, and does it all again when the session is lost, until
 * `stop`. Nothing is queued while it is down: requests fail at once with `disconnected`.
 */
export class SessionClient<I extends SessionInterface> {
  readonly #options: SessionClientOptions<I>;
  readonly #backoff: Backoff;
  readonly #stopped = new AbortController();
  #nextOrigin = 0;
  /** Origins that were not tried since the last waiting time. */
  #untried: number;
  /** None of the origins has failed since the last waiting time. */
  #isNewRound = true;
  /** Attempts in a row that were refused for a reason that will not go away by itself. */
  #refusals = 0;
  #socket: WebSocket | undefined;
  #wire: Wire<I["toServer"], I["toClient"]> | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #check:
    | { timer: NodeJS.Timeout; deadline: number; sentAt: number; waiters: ((alive: boolean) => void)[] }
    | undefined;
  #wake: (() => void) | undefined;
  #running: Promise<void> | undefined;

  state: SessionState = "connecting";
  /** Since when the present state holds. */
  since = new Date();
  origin: string;
  /**
   * Why there is no session, from the newest round over all origins: what one of them said for good tells more than that
   * others could not be reached (from here, or over this IP version).
   */
  lastError: IsthmusError | undefined;
  /** Round trip of the newest ping. */
  rttMs: number | undefined;
  /** What the server answered to the newest login, its key, and whether it saw the source port that this end has. */
  login: { reply: LoginReply; serverKey: string; keptPort: boolean } | undefined;

  constructor(options: SessionClientOptions<I>) {
    this.#options = options;
    this.#backoff = new Backoff(options.backoff);
    this.origin = options.target.origins[0]!;
    this.#untried = options.target.origins.length;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Says goodbye and waits until the socket is closed. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#wake?.();
    if (this.#socket) closeByName(this.#socket, "shutting-down");
    await this.#running;
  }

  /** Ends the waiting time before the next attempt, if there is one: the network has changed. */
  retryNow(): void {
    this.#wake?.();
  }

  request<N extends RequestName<I["toServer"]>>(
    type: N,
    body: RequestInput<I["toServer"], N>,
    options?: { timeoutMs?: number; id?: string },
  ): Promise<ReplyBody<I["toServer"], N>> {
    if (!this.#wire) return Promise.reject(new IsthmusError("disconnected"));
    return this.#wire.request(type, body, options);
  }

  event<N extends EventName<I["toServer"]>>(type: N, body: EventInput<I["toServer"], N>): void {
    this.#wire?.event(type, body);
  }

  /** @returns false when the session is down */
  binary(frame: Uint8Array): boolean {
    if (this.state !== "up" || !this.#wire) return false;
    this.#wire.binary(frame);
    return true;
  }

  /** Resolves when the session is up. @throws the signal's reason, or IsthmusError `shutting-down` after `stop` */
  async whenUp(signal?: AbortSignal): Promise<void> {
    while (this.state !== "up") {
      signal?.throwIfAborted();
      if (this.#stopped.signal.aborted) throw new IsthmusError("shutting-down");
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const abort = (): void => reject(signal?.reason as Error);
      signal?.addEventListener("abort", abort, { once: true });
      this.#upWaiters.push(resolve);
      await promise.finally(() => signal?.removeEventListener("abort", abort));
    }
  }

  readonly #upWaiters: (() => void)[] = [];

  /**
   * Asks the server for a sign of life now. Without one within 2 s the session is given up and dialled again at once.
   * @returns whether the session lives
   */
  check(timeoutMs = CHECK_TIMEOUT_MS): Promise<boolean> {
    const socket = this.#socket;
    if (this.state !== "up" || !socket) return Promise.resolve(false);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const sentAt = performance.now();
    const deadline = sentAt + timeoutMs;
    const running = this.#check;
    if (running) {
      running.waiters.push(resolve);
      if (running.deadline <= deadline) return promise;
      clearTimeout(running.timer);
      running.timer = this.#giveUpAfter(timeoutMs);
      running.deadline = deadline;
      return promise;
    }
    this.#check = { timer: this.#giveUpAfter(timeoutMs), deadline, sentAt, waiters: [resolve] };
    socket.ping();
    return promise;
  }

  #giveUpAfter(timeoutMs: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#options.logger.info({ origin: this.origin }, "the session gives no sign of life");
      this.#settleCheck(false);
      this.#wire?.terminate("silent");
    }, timeoutMs);
  }

  #settleCheck(alive: boolean): void {
    const check = this.#check;
    if (!check) return;
    this.#check = undefined;
    clearTimeout(check.timer);
    if (alive) this.rttMs = performance.now() - check.sentAt;
    for (const resolve of check.waiters) resolve(alive);
  }

  async #run(): Promise<void> {
    const { logger, target, backoff } = this.#options;
    while (!this.#stopped.signal.aborted) {
      const error = await this.#session().catch(toIsthmusError);
      this.#note(error);
      if (this.#stopped.signal.aborted) break;
      const refused = isRefusal(error);
      this.#refusals = refused ? this.#refusals + 1 : 0;
      // Another origin may be good where this one is not; whoever was superseded must not fight for its place.
      const hopeless = this.#refusals >= target.origins.length || error.code === "superseded";
      // One that cannot be reached from here (of another IP version, say) must not make those that can wait longer.
      if (this.#untried > 0 && !hopeless && error.retryAfterMs === undefined) continue;
      const askedMs = Math.min(error.retryAfterMs ?? 0, backoff.longMs);
      const waitMs = Math.max(this.#backoff.next(performance.now(), hopeless), askedMs);
      logger[hopeless ? "warn" : "info"](
        { origin: this.origin, code: error.code, waitMs },
        `session: ${error.message}`,
      );
      await this.#sleep(waitMs);
      this.#untried = target.origins.length;
      this.#isNewRound = true;
    }
    this.#setState("down");
    for (const resolve of this.#upWaiters.splice(0)) resolve();
  }

  /** Why the newest attempt failed, or the session ended. */
  #note(error: IsthmusError): void {
    const isWorthMore = this.lastError !== undefined && isRefusal(this.lastError) && !this.#isNewRound;
    if (!isWorthMore || isRefusal(error)) this.lastError = error;
    this.#isNewRound = false;
  }

  /** One connection from dial to close. @throws IsthmusError why it did not come up, or why it ended */
  async #session(): Promise<never> {
    const { protocol, target, logger } = this.#options;
    this.origin = target.origins[this.#nextOrigin % target.origins.length]!;
    // Only a session that came up keeps its origin for the next attempt.
    this.#nextOrigin++;
    this.#untried--;
    const { socket, localPort } = await dial(this.origin, {
      ...(target.certificate === undefined ? {} : { certificate: target.certificate }),
      allowInsecure: this.#options.allowInsecure,
      maxPayload: LIMITS.sessionFrameBytes,
      timeoutMs: DIAL_TIMEOUT_MS,
      signal: this.#stopped.signal,
    });
    this.#socket = socket;
    const ended = Promise.withResolvers<[number, Buffer]>();
    socket.on("close", (code, reason) => ended.resolve([code, reason]));
    socket.on("error", () => socket.terminate());
    if (this.#stopped.signal.aborted) socket.terminate();
    try {
      const { reply, serverKey, early } = await this.#logIn(socket);
      const wire = new Wire({
        socket,
        say: protocol.toServer,
        hear: protocol.toClient,
        handlers: this.#options.handlers,
        hooks: this.#options.hooks ?? {},
        owner: this,
      });
      this.#wire = wire as Wire<I["toServer"], I["toClient"]>;
      this.login = { reply, serverKey, keptPort: parseHostPort(reply.observed)?.port === localPort };
      for (const { data, isBinary } of early) wire.receive(data, isBinary);
      socket.on("message", (data: Buffer, isBinary: boolean) => wire.receive(data, isBinary));
      socket.on("pong", () => this.#settleCheck(true));
      const lost = ended.promise.then((close): never => {
        throw new IsthmusError(wire.closed(...close));
      });
      lost.catch(() => undefined);
      await Promise.race([this.#options.onLogin?.(reply), lost]);
      this.#backoff.reset();
      this.#nextOrigin--;
      // When it is lost everybody may be coming back: there is a waiting time first.
      this.#untried = 0;
      this.#startHeartbeat(reply.heartbeatMs);
      this.lastError = undefined;
      this.#setState("up");
      logger.info({ origin: this.origin, observed: reply.observed }, "session up");
      this.#options.onUp?.();
      for (const resolve of this.#upWaiters.splice(0)) resolve();
      return await lost;
    } catch (error) {
      this.#note(toIsthmusError(error));
      throw error;
    } finally {
      clearInterval(this.#heartbeat);
      this.#settleCheck(false);
      if (socket.readyState !== socket.CLOSED) socket.terminate();
      this.#wire?.closed(1006, Buffer.alloc(0));
      this.#wire = undefined;
      this.#socket = undefined;
      const wasUp = this.state === "up";
      this.#setState("connecting");
      if (wasUp) this.#options.onDown?.(this.lastError ?? new IsthmusError("closed"));
    }
  }

  async #logIn(socket: WebSocket): Promise<LoggedIn> {
    const { identity, role, serverRole, target, boot, registration } = this.#options;
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      socket.terminate();
    }, LOGIN_TIMEOUT_MS);
    try {
      const login = logIn(socket, {
        identity,
        role,
        serverRole,
        expect: target.expect,
        origin: this.origin,
        boot,
        ...registration?.(),
      });
      socket.resume();
      return await login;
    } catch (error) {
      throw isLate ? new IsthmusError("login-timeout", "the server did not complete the login in time") : error;
    } finally {
      clearTimeout(timer);
    }
  }

  #startHeartbeat(intervalMs: number): void {
    clearInterval(this.#heartbeat);
    const timeoutMs = Math.min(intervalMs, HEARTBEAT_TIMEOUT_MS);
    this.#heartbeat = setInterval(() => void this.check(timeoutMs), intervalMs);
  }

  #setState(state: SessionState): void {
    if (state === this.state) return;
    this.state = state;
    this.since = new Date();
  }

  async #sleep(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    this.#wake = resolve;
    await promise;
    this.#wake = undefined;
    clearTimeout(timer);
  }
}

/** The server said no, and will again. */
function isRefusal({ code }: IsthmusError): boolean {
  return !CODES[code].retry;
}

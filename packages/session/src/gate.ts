import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import {
  type Code,
  canonicalIp,
  errorFrameOf,
  eventFrame,
  formatHostPort,
  IsthmusError,
  LIMITS,
  type loginRequest,
  loginTranscript,
  loginVocabulary,
  okFrame,
  parseFrame,
  type ServerRole,
  SUPPORTED_VERSIONS,
  sourcePrefix,
  toIsthmusError,
} from "@isthmus/protocol";
import { type Identity, type Logger, verifySignature } from "@isthmus/service";
import { type WebSocket, WebSocketServer } from "ws";
import type { z } from "zod";
import { SESSION_PATH } from "./dial.ts";
import type { LoginAttempt, SessionServer } from "./server.ts";
import { type Rate, TokenBuckets } from "./token-bucket.ts";
import { CLOSE_TIMEOUT_MS, closeByName } from "./wire.ts";

/** A login must be complete this long after the upgrade. */
const LOGIN_TIMEOUT_MS = 10_000;
const SWEEP_MS = 1000;

export interface SessionGateOptions {
  role: ServerRole;
  identity: Identity;
  /** Whether clients may have dialled this origin to reach this server. */
  isOwnOrigin: (origin: string) => boolean;
  /** Connections from one address (an IPv6 /64). */
  connectRate: Rate;
  maxSessions: number;
  // biome-ignore lint/suspicious/noExplicitAny: each server has its own protocol and context
  servers: SessionServer<any, any>[];
  logger: Logger;
  /** Counts refused connections and logins by reason. */
  onRefused?: (code: Code) => void;
}

/**
 * The door of a server: takes upgrades of one listening port, proves the mutual login and hands each
 * socket to the {@link SessionServer} for its kind of client.
 */
export class SessionGate {
  readonly #options: SessionGateOptions;
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: LIMITS.sessionFrameBytes,
    clientTracking: false,
  });
  readonly #connects: TokenBuckets;
  readonly #open = new Set<WebSocket>();
  readonly #sweeper: NodeJS.Timeout;
  #closed = false;

  constructor(options: SessionGateOptions) {
    this.#options = options;
    this.#connects = new TokenBuckets(options.connectRate);
    this.#sweeper = setInterval(() => {
      const now = performance.now();
      for (const server of options.servers) server.sweep(now);
    }, SWEEP_MS);
  }

  /** Sockets that are open, logged in or about to. */
  get size(): number {
    return this.#open.size;
  }

  /** Listener for the `upgrade` event of an HTTP server. */
  readonly handleUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    const address = canonicalIp(request.socket.remoteAddress ?? "");
    // Node's HTTP server took its own listener off the socket: a peer that resets it must not end the process.
    socket.on("error", ignore);
    if (this.#closed) {
      this.#refuse(socket, "503 Service Unavailable", "shutting-down");
      return;
    }
    const waitMs = this.#connects.take(sourcePrefix(address), performance.now());
    if (request.url !== SESSION_PATH) {
      this.#refuse(socket, "404 Not Found", "bad-request");
      return;
    }
    if (waitMs > 0) {
      this.#refuse(socket, "429 Too Many Requests", "rate-limited", waitMs);
      return;
    }
    if (this.#open.size >= this.#options.maxSessions) {
      this.#refuse(socket, "503 Service Unavailable", "too-many-sessions");
      return;
    }
    // Nothing that lives as long as the session may be made in here, where it would keep the request.
    const source = { address, remotePort: request.socket.remotePort ?? 0 };
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => this.#take(webSocket, source));
  };

  /**
   * Closes every session as `shutting-down` and refuses further ones; resolves when all sockets are closed, at the
   * latest after `deadlineMs`.
   */
  async close(deadlineMs = CLOSE_TIMEOUT_MS): Promise<void> {
    this.#closed = true;
    clearInterval(this.#sweeper);
    const deadline = setTimeout(() => {
      for (const socket of this.#open) socket.terminate();
    }, deadlineMs);
    await Promise.all(
      [...this.#open].map((socket) => {
        const { promise, resolve } = Promise.withResolvers<void>();
        socket.once("close", () => resolve());
        closeByName(socket, "shutting-down");
        return promise;
      }),
    );
    clearTimeout(deadline);
  }

  #refuse(socket: Duplex, status: string, code: Code, waitMs = 1000): void {
    this.#options.onRefused?.(code);
    const retry = Math.ceil(waitMs / 1000);
    // A peer that keeps its own half open would hold the socket.
    socket.once("finish", () => socket.destroy());
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nRetry-After: ${retry}\r\nContent-Length: 0\r\n\r\n`);
  }

  #take(webSocket: WebSocket, source: { address: string; remotePort: number }): void {
    this.#open.add(webSocket);
    webSocket.once("close", () => this.#open.delete(webSocket));
    webSocket.on("error", ignore);
    void this.#logIn(webSocket, source);
  }

  async #logIn(socket: WebSocket, source: { address: string; remotePort: number }): Promise<void> {
    const { identity, role, logger } = this.#options;
    const nonce = randomBytes(32).toString("base64url");
    socket.send(eventFrame("hello", { versions: SUPPORTED_VERSIONS, role, key: identity.publicKey, nonce }));
    const message = await firstMessage(socket);
    if (!message) {
      if (socket.readyState !== socket.OPEN) return;
      this.#options.onRefused?.("login-timeout");
      closeByName(socket, "login-timeout");
      return;
    }
    // Until the session has its listener, nothing may be lost that a hasty client sends behind its login.
    socket.pause();
    let requestId = "";
    try {
      if (message.length > LIMITS.loginFrameBytes) throw new IsthmusError("too-large");
      const frame = parseFrame(message.toString("utf8"), loginVocabulary.toServer);
      if (frame.kind === "bad-request") {
        requestId = frame.id;
        throw frame.error;
      }
      if (frame.kind !== "request") throw new IsthmusError("bad-message", "a session starts with login");
      requestId = frame.id;
      const login = frame.body as z.infer<typeof loginRequest>;
      const transcript = this.#check(login, nonce);
      const server = this.#options.servers.find(({ options }) => options.clientRole === login.role);
      if (!server) throw new IsthmusError("bad-request", `this server takes no logins of an ${login.role}`);
      const { role: clientRole, key, boot, origin, invite, device } = login;
      const attempt: LoginAttempt = { role: clientRole, key, boot, origin, invite, device, ...source };
      const verdict = await server.options.authorize(attempt);
      if (socket.readyState !== socket.OPEN) return;
      socket.send(
        okFrame(requestId, {
          signature: identity.sign(loginTranscript("server", transcript)),
          user: verdict.user,
          device: verdict.device,
          observed: formatHostPort({ host: source.address, port: source.remotePort }),
          heartbeatMs: server.options.heartbeatMs,
        }),
      );
      server.adopt(socket, attempt, verdict.context);
    } catch (error) {
      const refusal = toIsthmusError(error);
      if (refusal.code === "internal") logger.error({ err: error }, "login failed");
      this.#options.onRefused?.(refusal.code);
      logger.info({ address: source.address, code: refusal.code }, `login refused: ${refusal.message}`);
      if (requestId !== "") socket.send(errorFrameOf(requestId, refusal));
      closeByName(socket, refusal.code);
    } finally {
      socket.resume();
    }
  }

  /** @throws IsthmusError `unsupported-version`, `wrong-origin`, `bad-signature` */
  #check(login: z.infer<typeof loginRequest>, serverNonce: string) {
    const { role, identity, isOwnOrigin } = this.#options;
    if (!SUPPORTED_VERSIONS.includes(login.version)) {
      throw new IsthmusError("unsupported-version", `this server speaks versions ${SUPPORTED_VERSIONS.join(", ")}`);
    }
    if (!isOwnOrigin(login.origin)) {
      throw new IsthmusError("wrong-origin", `${login.origin} is not an address of this server`);
    }
    const transcript = {
      serverRole: role,
      serverKey: identity.publicKey,
      serverNonce,
      origin: login.origin,
      clientRole: login.role,
      clientKey: login.key,
      clientNonce: login.nonce,
      boot: login.boot,
    };
    if (!verifySignature(login.key, loginTranscript("client", transcript), login.signature)) {
      throw new IsthmusError("bad-signature");
    }
    return transcript;
  }
}

function ignore(): void {}

/** The first message of a socket, or nothing when it closes or takes too long. A binary one counts as empty: malformed. */
function firstMessage(socket: WebSocket): Promise<Buffer | undefined> {
  const { promise, resolve } = Promise.withResolvers<Buffer | undefined>();
  const timer = setTimeout(() => done(undefined), LOGIN_TIMEOUT_MS);
  const onMessage = (data: Buffer, isBinary: boolean): void => done(isBinary ? Buffer.alloc(0) : data);
  const onClose = (): void => done(undefined);
  function done(message: Buffer | undefined): void {
    clearTimeout(timer);
    socket.off("message", onMessage);
    socket.off("close", onClose);
    resolve(message);
  }
  socket.on("message", onMessage);
  socket.on("close", onClose);
  return promise;
}

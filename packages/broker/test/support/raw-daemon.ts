import { randomBytes } from "node:crypto";
import { loginTranscript, PROTOCOL_VERSION, requestFrame } from "@isthmus/protocol";
import { createIdentity, type Identity } from "@isthmus/service";
import { SESSION_PATH } from "@isthmus/session";
import { onTestFinished } from "vitest";
import { WebSocket } from "ws";
import { EventLog } from "./event-log.ts";

type Frame = Record<string, unknown>;

/** A client that writes its frames by hand, to say what no daemon would. */
export class RawDaemon {
  readonly socket: WebSocket;
  readonly frames = new EventLog<Frame>();
  /** The word of the close frame, or its number where it carries none. */
  readonly closed: Promise<string | number>;

  constructor(origin: string) {
    this.socket = new WebSocket(origin + SESSION_PATH, { perMessageDeflate: false });
    this.socket.on("message", (data: Buffer) => this.frames.push(JSON.parse(data.toString("utf8")) as Frame));
    this.socket.on("error", () => undefined);
    this.closed = new Promise((resolve) => {
      this.socket.on("close", (code, reason) => resolve(reason.length > 0 ? reason.toString() : code));
    });
    onTestFinished(() => this.socket.terminate());
  }

  send(frame: unknown): void {
    this.socket.send(typeof frame === "string" || frame instanceof Uint8Array ? frame : JSON.stringify(frame));
  }

  /** The login that an honest daemon of `identity` would answer this server's hello with. */
  async login(
    origin: string,
    options: { identity?: Identity; invite?: string; role?: "daemon" | "ist"; changes?: Frame } = {},
  ): Promise<Frame> {
    const identity = options.identity ?? createIdentity();
    const hello = (await this.frames.next(({ t }) => t === "hello")) as { key: string; nonce: string; role: "isb" };
    const clientNonce = randomBytes(32).toString("base64url");
    const boot = randomBytes(8).toString("hex");
    const role = options.role ?? "daemon";
    const signature = identity.sign(
      loginTranscript("client", {
        serverRole: hello.role,
        serverKey: hello.key,
        serverNonce: hello.nonce,
        origin,
        clientRole: role,
        clientKey: identity.publicKey,
        clientNonce,
        boot,
      }),
    );
    const login = {
      version: PROTOCOL_VERSION,
      role,
      key: identity.publicKey,
      nonce: clientNonce,
      origin,
      boot,
      signature,
    };
    return { ...login, invite: options.invite, ...options.changes };
  }

  /** Sends a login and gives what the server makes of it. */
  async logIn(login: Frame): Promise<Frame> {
    this.send(requestFrame("login", "login", login));
    return this.frames.next(({ re }) => re === "login");
  }
}

/** A raw client that is logged in. */
export async function rawLogin(server: { origin: string }, identity: Identity, invite?: string): Promise<RawDaemon> {
  const raw = new RawDaemon(server.origin);
  const answer = await raw.logIn(
    await raw.login(server.origin, { identity, ...(invite === undefined ? {} : { invite }) }),
  );
  if (answer.t !== "ok") throw new Error(`the login was refused: ${JSON.stringify(answer)}`);
  return raw;
}

import { randomBytes } from "node:crypto";
import {
  type Code,
  type LoginTranscript,
  type loginRequest,
  loginTranscript,
  PROTOCOL_VERSION,
  requestFrame,
} from "@isthmus/protocol";
import { createIdentity, type Identity } from "@isthmus/service";
import { SESSION_PATH } from "@isthmus/session";
import { onTestFinished } from "vitest";
import { WebSocket } from "ws";
import type { z } from "zod";

type LoginRequest = z.input<typeof loginRequest>;

interface Hello {
  versions: number[];
  role: "isb" | "ist";
  key: string;
  nonce: string;
}

/** A client that says what a test wants said: the frames it got, and how it was closed. */
export class RawClient {
  readonly socket: WebSocket;
  readonly #frames: Record<string, unknown>[] = [];
  #wake = Promise.withResolvers<void>();
  /** The word of the close frame, or its number where it carries no word. */
  readonly closed: Promise<Code | number>;

  constructor(origin: string) {
    this.socket = new WebSocket(origin + SESSION_PATH, { perMessageDeflate: false });
    this.socket.on("message", (data: Buffer) => {
      this.#frames.push(JSON.parse(data.toString("utf8")) as Record<string, unknown>);
      this.#wake.resolve();
    });
    this.socket.on("error", () => undefined);
    this.closed = new Promise((resolve) => {
      this.socket.on("close", (code, reason) => {
        resolve(reason.length > 0 ? (reason.toString() as Code) : code);
        this.#wake.resolve();
      });
    });
    onTestFinished(() => this.socket.terminate());
  }

  /** The next frame, or `undefined` when the connection ended before it. */
  async next(): Promise<Record<string, unknown> | undefined> {
    while (this.#frames.length === 0) {
      if (this.socket.readyState === this.socket.CLOSED) return undefined;
      this.#wake = Promise.withResolvers();
      await this.#wake.promise;
    }
    return this.#frames.shift();
  }

  async hello(): Promise<Hello> {
    return (await this.next()) as unknown as Hello;
  }

  send(frame: unknown): void {
    this.socket.send(typeof frame === "string" || frame instanceof Uint8Array ? frame : JSON.stringify(frame));
  }

  /** Sends a login and gives what the server makes of it. */
  async login(request: LoginRequest): Promise<Record<string, unknown> | undefined> {
    this.send(requestFrame("login", "r1", request));
    return this.next();
  }
}

/** A right login, as a client of `identity` that dialled `origin` answers `hello`. */
export function loginFor(hello: Hello, origin: string, identity: Identity = createIdentity()): LoginRequest {
  const transcript: LoginTranscript = {
    serverRole: hello.role,
    serverKey: hello.key,
    serverNonce: hello.nonce,
    origin,
    clientRole: "daemon",
    clientKey: identity.publicKey,
    clientNonce: randomBytes(32).toString("base64url"),
    boot: "0011223344556677",
  };
  return {
    version: PROTOCOL_VERSION,
    role: "daemon",
    key: identity.publicKey,
    nonce: transcript.clientNonce,
    origin,
    boot: transcript.boot,
    signature: identity.sign(loginTranscript("client", transcript)),
  };
}

/** A client that is logged in by hand. */
export async function rawLogin(origin: string, identity?: Identity): Promise<RawClient> {
  const client = new RawClient(origin);
  const answer = await client.login(loginFor(await client.hello(), origin, identity));
  if (answer?.t !== "ok") throw new Error(`the login was refused: ${JSON.stringify(answer)}`);
  return client;
}

import { randomBytes } from "node:crypto";
import {
  type ClientRole,
  type Frame,
  fingerprintOf,
  IsthmusError,
  type loginReply,
  loginTranscript,
  loginVocabulary,
  PROTOCOL_VERSION,
  parseFrame,
  parseReply,
  requestFrame,
  type ServerRole,
} from "@isthmus/protocol";
import { type Identity, verifySignature } from "@isthmus/service";
import type { WebSocket } from "ws";
import type { z } from "zod";
import { closeReason, newRequestId } from "./wire.ts";

export type LoginReply = z.infer<typeof loginReply>;

export interface LoginClientOptions {
  identity: Identity;
  role: ClientRole;
  serverRole: ServerRole;
  /** The server's whole key, or the fingerprint of it that an invite carries. */
  expect: { key: string } | { fingerprint: string };
  origin: string;
  boot: string;
  invite?: string;
  device?: string;
}

export interface LoggedIn {
  reply: LoginReply;
  /** Raw, base64url. */
  serverKey: string;
  /** Messages that came right behind the answer: the first that belong to the session. */
  early: Message[];
}

interface Message {
  data: Buffer;
  isBinary: boolean;
}

/**
 * The client's half of the mutual login. Resolves when the server has proved itself; nothing but the login itself was
 * sent before.
 * @throws IsthmusError `wrong-server-key`, `unsupported-version`, `bad-signature`, or what the server refused with
 */
export async function logIn(socket: WebSocket, options: LoginClientOptions): Promise<LoggedIn> {
  const frames = messageReader(socket);
  try {
    const hello = await frames.next();
    if (hello.kind !== "event") throw new IsthmusError("bad-message", "the server did not say hello first");
    const {
      versions,
      role,
      key,
      nonce: serverNonce,
    } = hello.body as { versions: number[]; role: string; key: string; nonce: string };
    if (!versions.includes(PROTOCOL_VERSION)) {
      throw new IsthmusError(
        "unsupported-version",
        `the server speaks versions ${versions.join(", ")}, not ${PROTOCOL_VERSION}`,
      );
    }
    if (role !== options.serverRole)
      throw new IsthmusError("wrong-server-key", `the server is an ${role}, not an ${options.serverRole}`);
    const isExpected =
      "key" in options.expect ? key === options.expect.key : fingerprintOf(key) === options.expect.fingerprint;
    if (!isExpected)
      throw new IsthmusError(
        "wrong-server-key",
        `the server's key is ${fingerprintOf(key)}, which is not the expected one`,
      );

    const clientNonce = randomBytes(32).toString("base64url");
    const transcript = {
      serverRole: options.serverRole,
      serverKey: key,
      serverNonce,
      origin: options.origin,
      clientRole: options.role,
      clientKey: options.identity.publicKey,
      clientNonce,
      boot: options.boot,
    };
    const id = newRequestId();
    socket.send(
      requestFrame("login", id, {
        version: PROTOCOL_VERSION,
        role: options.role,
        key: options.identity.publicKey,
        nonce: clientNonce,
        origin: options.origin,
        boot: options.boot,
        signature: options.identity.sign(loginTranscript("client", transcript)),
        invite: options.invite,
        device: options.device,
      }),
    );
    const answer = await frames.next();
    if (answer.kind === "error") throw answer.error;
    if (answer.kind !== "ok" || answer.re !== id) throw new IsthmusError("bad-message", "the login was not answered");
    const reply = parseReply(loginVocabulary.toServer.requests.login, "login", answer.body) as LoginReply;
    if (!verifySignature(key, loginTranscript("server", transcript), reply.signature)) {
      throw new IsthmusError("bad-signature", "the server did not prove that it holds its key");
    }
    return { reply, serverKey: key, early: frames.rest() };
  } finally {
    frames.release();
  }
}

/** The first messages of a socket, one by one. */
function messageReader(socket: WebSocket) {
  const queue: Message[] = [];
  let arrived = Promise.withResolvers<void>();
  let ending: IsthmusError | undefined;

  const onMessage = (data: Buffer, isBinary: boolean): void => {
    queue.push({ data, isBinary });
    arrived.resolve();
  };
  const onClose = (closeCode: number, reason: Buffer): void => {
    const code = closeReason(closeCode, reason);
    ending = new IsthmusError(
      code,
      code === "closed" ? "the server closed the connection during the login" : undefined,
    );
    arrived.resolve();
  };
  socket.on("message", onMessage);
  socket.on("close", onClose);
  return {
    async next(): Promise<Frame> {
      while (queue.length === 0) {
        if (ending) throw ending;
        arrived = Promise.withResolvers();
        await arrived.promise;
      }
      const { data, isBinary } = queue.shift()!;
      if (isBinary) throw new IsthmusError("bad-message", "a binary frame before the login");
      return parseFrame(data.toString("utf8"), loginVocabulary.toClient);
    },
    rest: (): Message[] => queue,
    release(): void {
      socket.off("message", onMessage);
      socket.off("close", onClose);
    },
  };
}

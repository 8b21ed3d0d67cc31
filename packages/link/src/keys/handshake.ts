import { hasFastAes, type Suite } from "@isthmus/native";
import { ed25519PublicKey, ed25519Signature, explain, IsthmusError, lengthPrefixed } from "@isthmus/protocol";
import { type Identity, verifySignature } from "@isthmus/service";
import { z } from "zod";
import { Generation } from "./generation.ts";
import { createX25519KeyPair, HandshakeState, IX, type X25519KeyPair } from "./noise.ts";

/**
 * Key agreement of two daemons: `Noise_IX_25519_ChaChaPoly_SHA256`. The static keys are X25519 keys of this process
 * alone; each payload ties its sender's to the device by an Ed25519 signature of the handshake hash, which covers that
 * key, the prologue and everything before.
 */
const payload = z.object({
  key: ed25519PublicKey,
  signature: ed25519Signature,
  /** What this host encrypts fast. AES is used where both prefer it. */
  prefer: z.enum(["aes-256-gcm", "chacha20-poly1305"]),
});
type Payload = z.infer<typeof payload>;

export interface HandshakeContext {
  identity: Identity;
  /** This process' static key. */
  staticKey: X25519KeyPair;
  /** Id of the subscriber's request: the handshake belongs to it alone. */
  requestId: string;
  /** `service@user`, or another text that both sides know the purpose by. */
  subject: string;
}

export function createStaticKey(): X25519KeyPair {
  return createX25519KeyPair();
}

function prologueOf({ requestId, subject }: HandshakeContext): Buffer {
  return lengthPrefixed(["isthmus-link-1", requestId, subject]);
}

/** The subscriber's half. */
export class Initiator {
  readonly #context: HandshakeContext;
  readonly #noise: HandshakeState;
  readonly message: Buffer;

  constructor(context: HandshakeContext) {
    this.#context = context;
    this.#noise = new HandshakeState({
      name: "IX",
      pattern: IX,
      role: "initiator",
      prologue: prologueOf(context),
      staticKey: context.staticKey,
    });
    this.message = this.#noise.write((h) => makePayload("initiator", context.identity, h));
  }

  /**
   * Takes the provider's message. The caller checks or makes the pin on `peer` before it uses anything else.
   * @throws IsthmusError `handshake-failed`
   */
  finish(message: Buffer, now: number): { peer: string; generation: Generation } {
    const { payload: sealed, h } = this.#noise.read(message);
    const peer = readPayload("responder", sealed, h);
    if (peer.key === this.#context.identity.publicKey)
      throw new IsthmusError("handshake-failed", "the peer is oneself");
    return { peer: peer.key, generation: new Generation(this.#noise.finish(), 0, agreedSuite(peer.prefer), now) };
  }
}

/**
 * The provider's half, in one step. The generation is proved only by the first sealed message of the subscriber.
 * @throws IsthmusError `handshake-failed`
 */
export function respond(
  context: HandshakeContext,
  message: Buffer,
  now: number,
): { peer: string; message: Buffer; generation: Generation } {
  const noise = new HandshakeState({
    name: "IX",
    pattern: IX,
    role: "responder",
    prologue: prologueOf(context),
    staticKey: context.staticKey,
  });
  const { payload: clear, h } = noise.read(message);
  const peer = readPayload("initiator", clear, h);
  if (peer.key === context.identity.publicKey) throw new IsthmusError("handshake-failed", "the peer is oneself");
  const answer = noise.write((hash) => makePayload("responder", context.identity, hash));
  const generation = new Generation(noise.finish(), 1, agreedSuite(peer.prefer), now);
  return { peer: peer.key, message: answer, generation };
}

function ownPreference(): Suite {
  return hasFastAes() ? "aes-256-gcm" : "chacha20-poly1305";
}

function agreedSuite(peers: Suite): Suite {
  return peers === "aes-256-gcm" && ownPreference() === "aes-256-gcm" ? "aes-256-gcm" : "chacha20-poly1305";
}

function signed(role: "initiator" | "responder", h: Buffer): Buffer {
  return lengthPrefixed([`isthmus-link-1 ${role}`, h]);
}

function makePayload(role: "initiator" | "responder", identity: Identity, h: Buffer): Buffer {
  const content: Payload = {
    key: identity.publicKey,
    signature: identity.sign(signed(role, h)),
    prefer: ownPreference(),
  };
  return Buffer.from(JSON.stringify(content));
}

function readPayload(role: "initiator" | "responder", bytes: Buffer, h: Buffer): Payload {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString("utf8"));
  } catch (cause) {
    throw new IsthmusError("handshake-failed", "the payload is not JSON", { cause });
  }
  const parsed = payload.safeParse(json);
  if (!parsed.success) throw new IsthmusError("handshake-failed", `the payload is malformed: ${explain(parsed.error)}`);
  if (!verifySignature(parsed.data.key, signed(role, h), parsed.data.signature)) {
    throw new IsthmusError("handshake-failed", "the payload is not signed by the key that it names");
  }
  return parsed.data;
}

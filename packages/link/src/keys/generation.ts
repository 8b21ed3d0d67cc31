import { createHmac, createSecretKey } from "node:crypto";
import type { Suite } from "@isthmus/native";
import type { HandshakeResult } from "./noise.ts";

/** Noise role of a daemon in one generation: 0 initiator, 1 responder. Also the lowest bit of the ids it chooses. */
export type NoiseRole = 0 | 1;

/**
 * The keys of one handshake. A link may hold several at a time: opens are accepted under any, made under the newest.
 * Kept in memory alone.
 */
export class Generation {
  /** First 8 bytes of the handshake hash, hexadecimal. */
  readonly id: string;
  readonly role: NoiseRole;
  readonly suite: Suite;
  /** As the clock of whoever made it says, milliseconds. */
  readonly created: number;
  /** The peer's X25519 key, base64url: it belongs to one process of the peer. */
  readonly peerStatic: string;
  readonly send: DirectionKeys;
  readonly receive: DirectionKeys;
  /** Key of the HMAC in leg headers where direct, the same for both. */
  readonly directKey: Buffer;

  constructor(result: HandshakeResult, role: NoiseRole, suite: Suite, created: number) {
    this.id = result.hash.toString("hex", 0, 8);
    this.role = role;
    this.suite = suite;
    this.created = created;
    this.peerStatic = result.remoteStatic!.toString("base64url");
    const fromInitiator = new DirectionKeys(result.initiatorToResponder);
    const fromResponder = new DirectionKeys(result.responderToInitiator);
    this.send = role === 0 ? fromInitiator : fromResponder;
    this.receive = role === 0 ? fromResponder : fromInitiator;
    this.directKey = expandLabel(result.initiatorToResponder, "direct", Buffer.alloc(0), 32);
  }
}

/** What one daemon seals with and the other opens with. */
export class DirectionKeys {
  readonly #root: Buffer;
  readonly preface: Buffer;
  readonly control: Buffer;

  constructor(root: Buffer) {
    this.#root = root;
    this.preface = expandLabel(root, "preface", Buffer.alloc(0), 32);
    this.control = expandLabel(root, "control", Buffer.alloc(0), 32);
  }

  /** Secret of the records of one leg, see {@link recordKeys}. @param salt of the sender's preface */
  leg(openId: number, attempt: number, salt: Uint8Array): Buffer {
    const context = Buffer.alloc(9 + salt.length);
    context.writeBigUInt64BE(BigInt(openId));
    context[8] = attempt;
    context.set(salt, 9);
    return expandLabel(this.#root, "leg", context, 32);
  }

  /** Key of the datagrams of one UDP path. */
  udp(path: number): Buffer {
    const context = Buffer.alloc(8);
    context.writeBigUInt64BE(BigInt(path));
    return expandLabel(this.#root, "udp", context, 32);
  }
}

export interface RecordKeys {
  key: Buffer;
  iv: Buffer;
}

/** Key and iv of records under a secret, as RFC 8446 section 7.3 derives them. */
export function recordKeys(secret: Buffer): RecordKeys {
  return {
    key: expandLabel(secret, "key", Buffer.alloc(0), 32),
    iv: expandLabel(secret, "iv", Buffer.alloc(0), 12),
  };
}

/** The secret behind a key update (RFC 8446 section 7.2). */
export function nextSecret(secret: Buffer): Buffer {
  return expandLabel(secret, "traffic upd", Buffer.alloc(0), 32);
}

/**
 * HKDF-Expand-Label of RFC 8446 section 7.1 with SHA-256 and the prefix `isthmus1 ` instead of `tls13 `, for at most 32
 * bytes.
 */
function expandLabel(secret: Uint8Array, label: string, context: Uint8Array, length: number): Buffer {
  const name = Buffer.from(`isthmus1 ${label}`, "ascii");
  const info = Buffer.alloc(2 + 1 + name.length + 1 + context.length + 1);
  info.writeUInt16BE(length);
  info[2] = name.length;
  name.copy(info, 3);
  info[3 + name.length] = context.length;
  info.set(context, 4 + name.length);
  info[info.length - 1] = 1;
  // Given bytes, Node first rules out all other kinds of keys, which takes three times as long as the HMAC itself.
  return createHmac("sha256", createSecretKey(secret)).update(info).digest().subarray(0, length);
}

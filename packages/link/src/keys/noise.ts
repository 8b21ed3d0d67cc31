import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";
import { IsthmusError } from "@isthmus/protocol";

/**
 * The Noise Protocol Framework, revision 34 (noiseprotocol.org/noise.html), for suites `25519_ChaChaPoly_SHA256` without
 * pre-messages and pre-shared keys. The names are the specification's; the tests run its published vectors.
 */
type Token = "e" | "s" | "ee" | "es" | "se" | "ss";

/** The tokens of each message in turn, the initiator's first. */
export type Pattern = readonly (readonly Token[])[];

/** `IX`: both static keys are transmitted, the initiator's in clear (section 7.5). */
export const IX: Pattern = [
  ["e", "s"],
  ["e", "ee", "se", "s", "es"],
];

const HASH_BYTES = 32;
const KEY_BYTES = 32;
const TAG_BYTES = 16;
const EMPTY = Buffer.alloc(0);

export interface X25519KeyPair {
  privateKey: KeyObject;
  publicKey: Buffer;
}

// RFC 8410: prefixes of an X25519 key in PKCS#8 and SubjectPublicKeyInfo; the raw 32 bytes follow.
const PKCS8_PREFIX = Buffer.from("302e020100300506032b656e04220420", "hex");
const SPKI_PREFIX = Buffer.from("302a300506032b656e032100", "hex");

export function createX25519KeyPair(): X25519KeyPair {
  return pairOf(generateKeyPairSync("x25519").privateKey);
}

/** @param raw 32 bytes */
export function x25519KeyPairFromRaw(raw: Uint8Array): X25519KeyPair {
  return pairOf(createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, raw]), format: "der", type: "pkcs8" }));
}

function pairOf(privateKey: KeyObject): X25519KeyPair {
  const spki = createPublicKey(privateKey).export({ type: "spki", format: "der" });
  return { privateKey, publicKey: spki.subarray(SPKI_PREFIX.length) };
}

/** @throws IsthmusError `handshake-failed` when the result is all zeros (a low-order point) */
function dh(pair: X25519KeyPair, publicKey: Buffer): Buffer {
  try {
    const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: "der", type: "spki" });
    return diffieHellman({ privateKey: pair.privateKey, publicKey: key });
  } catch (cause) {
    throw new IsthmusError("handshake-failed", "the peer's public key is not usable", { cause });
  }
}

function hash(...parts: Uint8Array[]): Buffer {
  const digest = createHash("sha256");
  for (const part of parts) digest.update(part);
  return digest.digest();
}

function hmac(key: Uint8Array, ...parts: Uint8Array[]): Buffer {
  // Given bytes, Node first rules out all other kinds of keys, which takes longer than the HMAC itself.
  const mac = createHmac("sha256", createSecretKey(key));
  for (const part of parts) mac.update(part);
  return mac.digest();
}

/** HKDF with two outputs (section 4.3). */
function hkdf2(chainingKey: Buffer, input: Uint8Array): [Buffer, Buffer] {
  const secret = hmac(chainingKey, input);
  const first = hmac(secret, Uint8Array.of(1));
  return [first, hmac(secret, first, Uint8Array.of(2))];
}

/** Section 5.1; `n` counts messages under one key. */
export class CipherState {
  readonly #key: Buffer | undefined;
  #n = 0n;

  constructor(key?: Buffer) {
    this.#key = key;
  }

  get hasKey(): boolean {
    return this.#key !== undefined;
  }

  encrypt(ad: Uint8Array, plaintext: Uint8Array): Buffer {
    if (!this.#key) return Buffer.from(plaintext);
    const cipher = createCipheriv("chacha20-poly1305", this.#key, this.#nonce(), { authTagLength: TAG_BYTES });
    cipher.setAAD(ad, { plaintextLength: plaintext.length });
    return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  }

  /** @throws IsthmusError `handshake-failed` */
  decrypt(ad: Uint8Array, ciphertext: Buffer): Buffer {
    if (!this.#key) return Buffer.from(ciphertext);
    if (ciphertext.length < TAG_BYTES) throw new IsthmusError("handshake-failed", "the message is cut");
    const end = ciphertext.length - TAG_BYTES;
    const decipher = createDecipheriv("chacha20-poly1305", this.#key, this.#nonce(), { authTagLength: TAG_BYTES });
    decipher.setAAD(ad, { plaintextLength: end });
    decipher.setAuthTag(ciphertext.subarray(end));
    try {
      return Buffer.concat([decipher.update(ciphertext.subarray(0, end)), decipher.final()]);
    } catch (cause) {
      throw new IsthmusError("handshake-failed", "the message does not decrypt", { cause });
    }
  }

  #nonce(): Buffer {
    const nonce = Buffer.alloc(12);
    nonce.writeBigUInt64LE(this.#n++, 4);
    return nonce;
  }
}

/** Section 5.2. */
class SymmetricState {
  h: Buffer;
  #ck: Buffer;
  #cipher = new CipherState();

  constructor(protocolName: string) {
    const name = Buffer.from(protocolName, "ascii");
    this.h = name.length <= HASH_BYTES ? Buffer.concat([name, Buffer.alloc(HASH_BYTES - name.length)]) : hash(name);
    this.#ck = this.h;
  }

  get hasKey(): boolean {
    return this.#cipher.hasKey;
  }

  mixKey(input: Buffer): void {
    const [ck, key] = hkdf2(this.#ck, input);
    this.#ck = ck;
    this.#cipher = new CipherState(key);
  }

  mixHash(data: Uint8Array): void {
    this.h = hash(this.h, data);
  }

  encryptAndHash(plaintext: Uint8Array): Buffer {
    const ciphertext = this.#cipher.encrypt(this.h, plaintext);
    this.mixHash(ciphertext);
    return ciphertext;
  }

  decryptAndHash(ciphertext: Buffer): Buffer {
    const plaintext = this.#cipher.decrypt(this.h, ciphertext);
    this.mixHash(ciphertext);
    return plaintext;
  }

  split(): [Buffer, Buffer] {
    return hkdf2(this.#ck, EMPTY);
  }
}

export interface HandshakeOptions {
  /** As in the protocol name: `IX`. */
  name: string;
  pattern: Pattern;
  role: "initiator" | "responder";
  prologue: Uint8Array;
  staticKey: X25519KeyPair;
  /** For the published vectors alone: everywhere else a fresh one is made. */
  ephemeral?: X25519KeyPair;
}

/** The result of a handshake: one key per direction, and the hash that names the whole conversation. */
export interface HandshakeResult {
  initiatorToResponder: Buffer;
  responderToInitiator: Buffer;
  hash: Buffer;
  /** Nothing where the pattern transmits none. */
  remoteStatic: Buffer | undefined;
}

/** Section 5.3. The caller alternates {@link write} and {@link read} as the pattern says. */
export class HandshakeState {
  readonly #symmetric: SymmetricState;
  readonly #initiator: boolean;
  readonly #s: X25519KeyPair;
  #e: X25519KeyPair | undefined;
  #rs: Buffer | undefined;
  #re: Buffer | undefined;
  readonly #messages: Pattern;
  #next = 0;

  constructor(options: HandshakeOptions) {
    this.#symmetric = new SymmetricState(`Noise_${options.name}_25519_ChaChaPoly_SHA256`);
    this.#symmetric.mixHash(options.prologue);
    this.#initiator = options.role === "initiator";
    this.#s = options.staticKey;
    this.#e = options.ephemeral;
    this.#messages = options.pattern;
  }

  /**
   * The handshake hash at this moment. While a payload is being made or read it covers all keys of the message so far, so
   * that a signature of it belongs to this handshake alone.
   */
  get h(): Buffer {
    return this.#symmetric.h;
  }

  /** @param payload the payload, or a function that is given the hash over everything before it */
  write(payload: Uint8Array | ((h: Buffer) => Uint8Array)): Buffer {
    const parts: Buffer[] = [];
    for (const token of this.#messages[this.#next++]!) {
      if (token === "e") {
        this.#e ??= createX25519KeyPair();
        parts.push(this.#e.publicKey);
        this.#symmetric.mixHash(this.#e.publicKey);
      } else if (token === "s") parts.push(this.#symmetric.encryptAndHash(this.#s.publicKey));
      else this.#mixDh(token);
    }
    parts.push(this.#symmetric.encryptAndHash(typeof payload === "function" ? payload(this.#symmetric.h) : payload));
    return Buffer.concat(parts);
  }

  /**
   * @returns the payload, and the hash over everything before it
   * @throws IsthmusError `handshake-failed`
   */
  read(message: Buffer): { payload: Buffer; h: Buffer } {
    let rest = message;
    const take = (bytes: number): Buffer => {
      if (rest.length < bytes) throw new IsthmusError("handshake-failed", "the message is cut");
      const part = rest.subarray(0, bytes);
      rest = rest.subarray(bytes);
      return part;
    };
    for (const token of this.#messages[this.#next++]!) {
      if (token === "e") {
        this.#re = Buffer.from(take(KEY_BYTES));
        this.#symmetric.mixHash(this.#re);
      } else if (token === "s") {
        this.#rs = this.#symmetric.decryptAndHash(take(KEY_BYTES + (this.#symmetric.hasKey ? TAG_BYTES : 0)));
      } else this.#mixDh(token);
    }
    const { h } = this.#symmetric;
    return { payload: this.#symmetric.decryptAndHash(rest), h };
  }

  /** After the last message. */
  finish(): HandshakeResult {
    const [initiatorToResponder, responderToInitiator] = this.#symmetric.split();
    return { initiatorToResponder, responderToInitiator, hash: this.#symmetric.h, remoteStatic: this.#rs };
  }

  /** The first letter is the initiator's key, the second the responder's. */
  #mixDh(token: Token): void {
    const [mine, theirs] = this.#initiator ? [token[0], token[1]] : [token[1], token[0]];
    const pair = mine === "e" ? this.#e : this.#s;
    const remote = theirs === "e" ? this.#re : this.#rs;
    if (!pair || !remote) throw new IsthmusError("internal", `no key for ${token}`);
    this.#symmetric.mixKey(dh(pair, remote));
  }
}

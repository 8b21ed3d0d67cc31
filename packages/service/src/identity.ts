import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign as signBytes,
  verify as verifyBytes,
} from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { writeFileAtomic } from "./atomic-file.ts";

/** An Ed25519 key pair: who a device, an ISB or an IST is. */
export interface Identity {
  /** Raw public key, base64url. */
  readonly publicKey: string;
  /** 64 bytes, base64url. */
  sign(message: Uint8Array): string;
  /** PKCS#8 PEM, for the key file. */
  toPem(): string;
}

// RFC 8410: the SubjectPublicKeyInfo of an Ed25519 key is this prefix and the 32 raw bytes.
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

export function createIdentity(): Identity {
  return identityOf(generateKeyPairSync("ed25519").privateKey);
}

export function identityFromPem(pem: string): Identity {
  const key = createPrivateKey(pem);
  if (key.asymmetricKeyType !== "ed25519") throw new Error(`the key is ${key.asymmetricKeyType}, not ed25519`);
  return identityOf(key);
}

/** Reads the key of `path`, or makes one there (mode 0600, folder 0700). */
export function loadOrCreateIdentity(path: string): Identity {
  try {
    return identityFromPem(readFileSync(path, "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
      throw new Error(`cannot use the key file ${path}: ${(error as Error).message}`, { cause: error });
    }
  }
  const identity = createIdentity();
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileAtomic(path, identity.toPem(), { mode: 0o600 });
  return identity;
}

function identityOf(privateKey: KeyObject): Identity {
  const spki = createPublicKey(privateKey).export({ type: "spki", format: "der" });
  return {
    publicKey: spki.subarray(SPKI_PREFIX.length).toString("base64url"),
    sign: (message) => signBytes(null, message, privateKey).toString("base64url"),
    toPem: () => privateKey.export({ type: "pkcs8", format: "pem" }) as string,
  };
}

/** Whether `signature` (base64url) of `message` is by the raw public key (base64url). Malformed input is not. */
export function verifySignature(publicKey: string, message: Uint8Array, signature: string): boolean {
  const raw = Buffer.from(publicKey, "base64url");
  if (raw.length !== 32) return false;
  const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: "der", type: "spki" });
  return verifyBytes(null, message, key, Buffer.from(signature, "base64url"));
}

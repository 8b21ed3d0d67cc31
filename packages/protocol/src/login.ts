import { z } from "zod";
import { hostPort, origin } from "./address.ts";
import { base64url, ed25519PublicKey, ed25519Signature, hexId } from "./bytes.ts";
import type { Vocabulary } from "./envelope.ts";
import { name } from "./names.ts";

/**
 * Mutual login, the same for daemon at ISB, IST at ISB and daemon at IST:
 *
 *     server -> client   hello   key, nonce                    (sent at once)
 *     client -> server   login   device key, nonce, signature  (only if the server's key is the expected one)
 *     server -> client   ok      signature                     (the client checks it before it says anything more)
 *
 * Both sign {@link loginTranscript}, so that a login cannot be replayed (nonces) nor passed on to another server
 * (server's key, dialled origin).
 */
export const serverRole = z.enum(["isb", "ist"]);
export const clientRole = z.enum(["daemon", "ist"]);
export type ServerRole = z.infer<typeof serverRole>;
export type ClientRole = z.infer<typeof clientRole>;

const nonce = base64url(32);

/** New at each start of a process: a changed one tells peers that link keys and open connections are gone. */
export const bootId = hexId.meta({ description: "16 lower-case hexadecimal digits, random" });

export const hello = z.object({
  versions: z.array(z.int().nonnegative()).min(1).max(16).meta({ description: "that the server speaks" }),
  role: serverRole,
  key: ed25519PublicKey,
  nonce,
});

export const loginRequest = z.object({
  version: z.int().nonnegative().meta({ description: "one of the server's" }),
  role: clientRole,
  key: ed25519PublicKey,
  nonce,
  origin: origin.meta({ description: "the address that the client dialled" }),
  boot: bootId,
  signature: ed25519Signature,
  invite: base64url(16).optional().meta({ description: "token of an invite: registers the key, once" }),
  device: name.optional().meta({ description: "name of the device, with an invite" }),
});

export const loginReply = z.object({
  signature: ed25519Signature,
  user: name.optional().meta({ description: "who owns the device key (absent for an IST, and at an IST)" }),
  device: name.optional(),
  observed: hostPort.meta({ description: "the client's address as the server sees it" }),
  heartbeatMs: z.int().min(100).max(600_000).meta({ description: "the client pings this often" }),
});

export const loginVocabulary = {
  toServer: { requests: { login: { request: loginRequest, reply: loginReply } }, events: {} },
  toClient: { requests: {}, events: { hello } },
} as const satisfies { toServer: Vocabulary; toClient: Vocabulary };

export interface LoginTranscript {
  serverRole: ServerRole;
  serverKey: string;
  serverNonce: string;
  origin: string;
  clientRole: ClientRole;
  clientKey: string;
  clientNonce: string;
  boot: string;
}

/**
 * The bytes that `signer` signs: these fields, each behind its length (16 bits, big endian), so that no two different
 * sets of fields give the same bytes.
 *
 *     isthmus-login-1 SIGNER   text; SIGNER is client or server
 *     role of the server       text
 *     key of the server        32 bytes
 *     nonce of the server      32 bytes
 *     origin                   text, exactly as the client dialled it
 *     role of the client       text
 *     key of the client        32 bytes
 *     nonce of the client      32 bytes
 *     boot id of the client    8 bytes
 */
export function loginTranscript(signer: "client" | "server", fields: LoginTranscript): Buffer {
  return lengthPrefixed([
    `isthmus-login-1 ${signer}`,
    fields.serverRole,
    Buffer.from(fields.serverKey, "base64url"),
    Buffer.from(fields.serverNonce, "base64url"),
    fields.origin,
    fields.clientRole,
    Buffer.from(fields.clientKey, "base64url"),
    Buffer.from(fields.clientNonce, "base64url"),
    Buffer.from(fields.boot, "hex"),
  ]);
}

/** Concatenates the fields, each behind its length as 16 bits. */
export function lengthPrefixed(fields: (string | Uint8Array)[]): Buffer {
  const parts: Buffer[] = [];
  for (const field of fields) {
    const bytes = Buffer.from(field as Uint8Array);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(bytes.length);
    parts.push(length, bytes);
  }
  return Buffer.concat(parts);
}

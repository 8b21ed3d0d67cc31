import { z } from "zod";
import { base64url, ed25519PublicKey } from "./bytes.ts";
import { LIMITS } from "./limits.ts";
import { name } from "./names.ts";

/**
 * The ISB's signed word that a device may use a service, as a compact JWS (RFC 7515, EdDSA of RFC 8037) with this
 * payload. It lives at most 24 h and is renewed at half of its life, so that a subscription works at least 12 h after
 * its ISB was last seen.
 */
export const grantPayload = z.object({
  iss: ed25519PublicKey.meta({ description: "key of the ISB that signed" }),
  sub: base64url(16).meta({ description: "subscription" }),
  svc: name,
  prv: z.object({ user: name, key: ed25519PublicKey }).meta({ description: "provider" }),
  sbr: z.object({ user: name, key: ed25519PublicKey }).meta({ description: "subscriber" }),
  iat: z.int(),
  exp: z.int().meta({ description: "seconds since 1970" }),
});
export type GrantPayload = z.infer<typeof grantPayload>;

/** The header that every grant carries, letter for letter: no other algorithm is ever looked at. */
export const GRANT_HEADER = { alg: "EdDSA", typ: "isthmus-grant+jwt" } as const;

export const GRANT_LIFETIME_S = 24 * 3600;

export const grantText = z
  .string()
  .max(LIMITS.grantBytes)
  .regex(/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}$/)
  .meta({ description: "grant: compact JWS signed by the ISB" });

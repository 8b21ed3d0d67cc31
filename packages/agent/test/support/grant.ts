import { randomBytes } from "node:crypto";
import type { GrantPayload } from "@isthmus/protocol";
import { createIdentity } from "@isthmus/service";

/** The right of `alice` to use `web@bob`; its signature is not the business of whoever holds it. */
export function grantPayload(changes: Partial<GrantPayload> = {}): GrantPayload {
  const iat = Math.floor(Date.now() / 1000);
  return {
    iss: createIdentity().publicKey,
    sub: randomBytes(16).toString("base64url"),
    svc: "web",
    prv: { user: "bob", key: createIdentity().publicKey },
    sbr: { user: "alice", key: createIdentity().publicKey },
    iat,
    exp: iat + 86_400,
    ...changes,
  };
}

import {
  GRANT_HEADER,
  GRANT_LIFETIME_S,
  type GrantPayload,
  grantPayload,
  grantText,
  IsthmusError,
} from "@isthmus/protocol";
import { type Identity, verifySignature } from "@isthmus/service";

const HEADER = Buffer.from(JSON.stringify(GRANT_HEADER)).toString("base64url");

/** The compact JWS of a grant. The same payload always gives the same text. */
export function signGrant(issuer: Identity, payload: GrantPayload): string {
  const signed = `${HEADER}.${Buffer.from(JSON.stringify(payload)).toString("base64url")}`;
  return `${signed}.${issuer.sign(Buffer.from(signed))}`;
}

/**
 * What a grant says, once it is proved to be the issuer's. For whom it is, the caller compares.
 * @param issuer raw public key of the ISB, base64url
 * @param nowS seconds since 1970
 * @throws IsthmusError `grant-invalid`, `grant-expired`
 */
export function verifyGrant(text: string, issuer: string, nowS: number): GrantPayload {
  if (!grantText.safeParse(text).success) throw new IsthmusError("grant-invalid", "the grant is malformed");
  const [header, body, signature] = text.split(".") as [string, string, string];
  // Compared as text: what the header of somebody else's token asks for is never looked at.
  if (header !== HEADER) throw new IsthmusError("grant-invalid", "the grant is of another kind");
  if (!verifySignature(issuer, Buffer.from(`${header}.${body}`), signature)) throw new IsthmusError("grant-invalid");
  const payload = parsePayload(body);
  if (payload.iss !== issuer || payload.exp - payload.iat > GRANT_LIFETIME_S) throw new IsthmusError("grant-invalid");
  if (payload.exp <= nowS) throw new IsthmusError("grant-expired");
  return payload;
}

function parsePayload(body: string): GrantPayload {
  try {
    return grantPayload.parse(JSON.parse(Buffer.from(body, "base64url").toString("utf8")));
  } catch (cause) {
    throw new IsthmusError("grant-invalid", "the grant is malformed", { cause });
  }
}

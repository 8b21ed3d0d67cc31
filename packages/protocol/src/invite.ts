import { z } from "zod";
import { hostPort } from "./address.ts";
import { base64url, certificateFingerprint, fingerprint } from "./bytes.ts";
import { IsthmusError } from "./codes.ts";
import { explain } from "./envelope.ts";
import { name } from "./names.ts";
import { PROTOCOL_VERSION } from "./version.ts";

/**
 * What an operator hands to a user, or to an IST: where the ISB is, how to know it, and the right to register one key.
 * In text: `isthmus1:` and the base64url of this object as JSON.
 */
export const invite = z.object({
  v: z.literal(PROTOCOL_VERSION),
  /** Whom it registers. */
  role: z.enum(["daemon", "ist"]),
  addresses: z.array(hostPort).min(1).max(8),
  secure: z.boolean(),
  /** Fingerprint of the ISB's key. */
  isb: fingerprint,
  certificate: certificateFingerprint.optional(),
  token: base64url(16),
  /** The user that the device will belong to. */
  user: name.optional(),
});
export type Invite = z.infer<typeof invite>;

const PREFIX = "isthmus1:";

export function encodeInvite(value: Invite): string {
  return PREFIX + Buffer.from(JSON.stringify(value)).toString("base64url");
}

/** @throws IsthmusError `invite-invalid` that says what is wrong with the text */
export function decodeInvite(text: string): Invite {
  const trimmed = text.trim();
  if (!trimmed.startsWith(PREFIX)) {
    throw new IsthmusError("invite-invalid", `an invite starts with '${PREFIX}'`);
  }
  if (trimmed.length > 4096) throw new IsthmusError("invite-invalid", "the invite is too long");
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(trimmed.slice(PREFIX.length), "base64url").toString("utf8"));
  } catch (cause) {
    throw new IsthmusError("invite-invalid", "the invite is cut or mistyped", { cause });
  }
  const parsed = invite.safeParse(json);
  if (!parsed.success) throw new IsthmusError("invite-invalid", `the invite is malformed: ${explain(parsed.error)}`);
  return parsed.data;
}

import { createHash } from "node:crypto";
import { ed25519PublicKey, keyRotation, name, serviceSpec } from "@isthmus/protocol";
import { z } from "zod";

/**
 * Everything that the broker keeps, and all that several nodes share. Who is logged in is not among it: daemons and
 * ISTs say that themselves, at each login.
 *
 *     user/NAME               a user
 *     device/KEY              a device, by its public key
 *     device-name/USER/NAME   which key bears a device name; written before the device
 *     service/USER/NAME       a service and the one device that owns its name
 *     invite/HASH             an invite, by the SHA-256 of its token
 *     ist/KEY                 an IST, by its public key
 *     ist-name/NAME           which key bears an IST's name; written before the IST
 */
export const PREFIX = {
  user: "user/",
  device: "device/",
  deviceName: "device-name/",
  service: "service/",
  invite: "invite/",
  ist: "ist/",
  istName: "ist-name/",
} as const;

/** Rotations that are kept of a device: whoever pinned an older key than these pins anew. */
export const MOST_ROTATIONS = 8;
/** Keys that one invite may register; all of them are in its record, which is limited in size. */
export const MOST_USES = 1000;

const instant = z.iso.datetime();

export const userRecord = z.object({ name, created: instant, disabled: z.boolean() });
export type UserRecord = z.infer<typeof userRecord>;

export const deviceRecord = z.object({
  user: name,
  name,
  created: instant,
  /** Refused for good since then. */
  revoked: instant.optional(),
  /** The device goes on under this key. */
  replacedBy: ed25519PublicKey.optional(),
  rotations: z.array(keyRotation).max(MOST_ROTATIONS),
});
export type DeviceRecord = z.infer<typeof deviceRecord>;

export const serviceRecord = z.object({ device: ed25519PublicKey, created: instant, spec: serviceSpec });

export const inviteRecord = z.object({
  role: z.enum(["daemon", "ist"]),
  /** Whose device it registers; an IST belongs to nobody. */
  user: name.optional(),
  uses: z.int().min(1).max(MOST_USES),
  /** The keys it registered: a login that was cut off may come again without costing another use. */
  usedBy: z.array(ed25519PublicKey),
  created: instant,
  expires: instant,
});
export type InviteRecord = z.infer<typeof inviteRecord>;

export const istRecord = z.object({ name, created: instant, disabled: z.boolean() });
export type IstRecord = z.infer<typeof istRecord>;

/** Which key bears a name. */
export const nameRecord = z.object({ key: ed25519PublicKey });

/** What a service is called in keys, in the directory's order and in cursors. */
export function serviceId(user: string, service: string): string {
  return `${user}/${service}`;
}

/** The store never holds a token: whoever reads it cannot use its invites. */
export function inviteId(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

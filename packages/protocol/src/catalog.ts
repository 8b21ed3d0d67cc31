import { z } from "zod";
import { LIMITS } from "./limits.ts";
import { name } from "./names.ts";

export const transport = z.enum(["tcp", "udp"]);
export type Transport = z.infer<typeof transport>;

/** Which daemon may open a channel: `subscriber` for a plain service, `provider` for one that calls back (T 3.4.2). */
export const opener = z.enum(["subscriber", "provider"]);
export type Opener = z.infer<typeof opener>;

/**
 * One named stream or datagram flow kind of a service. Where the provider delivers it (a localhost or LAN address) is
 * the provider's own business and is never told to the ISB.
 */
export const channel = z.object({
  id: name.meta({ description: "what both sides call it, one of a kind in its service" }),
  proto: transport,
  opener: opener.default("subscriber"),
});
export type Channel = z.infer<typeof channel>;

/** Who may use a service. The provider's other devices always may. The provider checks it again, by key, at each open. */
export const allowList = z.object({
  anyone: z.boolean().default(false),
  users: z.array(name).max(LIMITS.allowedUsersPerService).default([]),
});

/** What a provider tells the ISB of a service. */
export const serviceSpec = z.object({
  name,
  channels: z
    .array(channel)
    .min(1)
    .max(LIMITS.channelsPerService)
    .refine((channels) => new Set(channels.map(({ id }) => id)).size === channels.length, "two channels of one id"),
  behaviour: name.default("plain"),
  plain: z.boolean().default(false).meta({ description: "consents to unencrypted data, if the subscriber does too" }),
  description: z.string().max(200).default(""),
  allow: allowList.prefault({}),
});
export type ServiceSpec = z.infer<typeof serviceSpec>;

/** One line of the directory, as shown to a user who may use the service. */
export const directoryEntry = z.object({
  service: name,
  user: name,
  device: name,
  fingerprint: z.string(),
  channels: z.array(channel),
  behaviour: name,
  description: z.string(),
  present: z.boolean().meta({ description: "the provider is logged in" }),
});
export type DirectoryEntry = z.infer<typeof directoryEntry>;

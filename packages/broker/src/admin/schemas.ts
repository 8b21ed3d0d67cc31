import { channel, fingerprint, name, subscriptionId } from "@isthmus/protocol";
import { z } from "zod";
import { MOST_USES } from "../profiles/records.ts";

const LONGEST_INVITE_S = 365 * 86_400;
const DAY_S = 86_400;

const instant = z.string().describe("ISO 8601, UTC");
const cursorOut = z.string().optional().describe("there is more: ask again with it");

export const pageQuery = z.object({
  cursor: z.string().max(200).default("").describe("of the page before"),
  limit: z.coerce.number().int().min(1).max(1000).default(100).describe("items at most"),
});

export const userView = z.object({
  name,
  created: instant,
  disabled: z.boolean().describe("may not log in; services and subscriptions are suspended"),
  devices: z.int().describe("keys, revoked ones too"),
  present: z.int().describe("devices that are logged in"),
  services: z.int().describe("service names that the devices own"),
});
export const userPage = z.object({ items: z.array(userView), cursor: cursorOut });

export const newInvite = z.discriminatedUnion("role", [
  z.object({
    role: z.literal("daemon"),
    user: name.describe("whom the devices belong to; made at the first use"),
    uses: z.int().min(1).max(MOST_USES).default(1).describe("devices that it registers"),
    lifetimeS: z.int().min(60).max(LONGEST_INVITE_S).default(DAY_S).describe("seconds"),
  }),
  z.object({
    role: z.literal("ist"),
    uses: z.int().min(1).max(MOST_USES).default(1).describe("ISTs that it registers"),
    lifetimeS: z.int().min(60).max(LONGEST_INVITE_S).default(DAY_S).describe("seconds"),
  }),
]);

const inviteIdText = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .describe("SHA-256 of the invite's token");

export const madeInvite = z.object({
  id: inviteIdText,
  invite: z.string().describe("to be handed on; it is not kept and cannot be shown again"),
  expires: instant,
});

export const inviteList = z.object({
  items: z.array(
    z.object({
      id: inviteIdText,
      role: z.enum(["daemon", "ist"]),
      user: name.optional(),
      uses: z.int(),
      used: z.int(),
      created: instant,
      expires: instant,
    }),
  ),
});

export const deviceList = z.object({
  items: z.array(
    z.object({
      name,
      fingerprint,
      created: instant,
      revoked: instant.optional().describe("refused since then"),
      present: z.boolean(),
    }),
  ),
});

export const servicePage = z.object({
  items: z.array(
    z.object({
      service: name,
      user: name,
      device: name,
      fingerprint,
      channels: z.array(channel),
      behaviour: name,
      description: z.string(),
      present: z.boolean().describe("the provider is logged in"),
      plain: z.boolean().describe("consents to unencrypted data"),
      allow: z.object({ anyone: z.boolean(), users: z.array(name) }).describe("who may use it beside the owner"),
    }),
  ),
  cursor: cursorOut,
});

export const istList = z.object({
  items: z.array(
    z.object({
      name,
      fingerprint,
      created: instant,
      disabled: z.boolean(),
      load: z
        .object({
          addresses: z.array(z.string()),
          dataPath: z.string(),
          draining: z.boolean(),
          allocations: z.int(),
          room: z.int().describe("further allocations that it could take"),
          splices: z.int(),
          bytesPerSecond: z.int(),
        })
        .optional()
        .describe("absent while it is not logged in"),
    }),
  ),
});

export const sessionPage = z.object({
  total: z.int(),
  items: z.array(
    z.object({
      user: name,
      device: z.string(),
      fingerprint,
      address: z.string().describe("source address of the session"),
      declared: z.boolean().describe("it has said what it provides and uses"),
      reachable: z.string().optional().describe("HOST:PORT at which this ISB reached its leg port"),
      subscriptions: z.int(),
    }),
  ),
  cursor: cursorOut,
});

const party = z.object({ user: name, fingerprint });

export const subscriptionPage = z.object({
  total: z.int(),
  items: z.array(
    z.object({
      id: subscriptionId,
      service: name,
      provider: party,
      subscriber: party,
      direct: z.boolean().describe("one of the two can be dialled by the other"),
      allocation: z.string().optional().describe("at an IST, as far as this node knows"),
      grantExpires: instant,
    }),
  ),
  cursor: cursorOut,
});

export const done = z.object({});
export const failure = z.object({ code: z.string(), message: z.string() }).describe("why it was not done");

export const userParams = z.object({ user: name });
export const inviteParams = z.object({ id: inviteIdText });
export const deviceParams = z.object({ user: name, fingerprint });
export const serviceParams = z.object({ user: name, service: name });
export const istParams = z.object({ fingerprint });

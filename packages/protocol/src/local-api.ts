import { z } from "zod";
import { hostPort } from "./address.ts";
import { hexId } from "./bytes.ts";
import { allowList, channel, directoryEntry, transport } from "./catalog.ts";
import { code } from "./envelope.ts";
import { probeReport, probeRequest, subscriptionId } from "./isb-daemon.ts";
import { LIMITS } from "./limits.ts";
import { name } from "./names.ts";

const target = hostPort.meta({ description: "HOST:PORT of the real service, on this host or in its LAN" });

export const localChannel = channel
  .extend({ target: target.optional() })
  .refine((value) => (value.opener === "subscriber") === (value.target !== undefined), {
    message: "a channel that the subscriber opens has a target, one that the provider opens has none",
  });
export type LocalChannel = z.infer<typeof localChannel>;

/** A service that this daemon provides, as the user states it. */
export const localService = z.object({
  name,
  /** The first TCP and the first UDP channel share one port at the subscriber. */
  channels: z.array(localChannel).min(1).max(LIMITS.channelsPerService),
  /** `plain`: its bytes are moved as they are. There is no other yet. */
  behaviour: name.default("plain"),
  /** Consents to unencrypted data, where the subscriber asks for it too. */
  plain: z.boolean().default(false),
  /** Shown in the directory. */
  description: z.string().max(200).default(""),
  allow: z
    .array(
      z.string().regex(/^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?(?:#[a-z2-7]{32})?$/, "not USER or USER#FINGERPRINT"),
    )
    .max(LIMITS.allowedUsersPerService)
    .default([])
    .meta({ description: "USER, or USER#FINGERPRINT for one device of theirs alone" }),
  /** Every user of the ISB may use it. */
  anyone: allowList.shape.anyone,
});
export type LocalService = z.infer<typeof localService>;
export type LocalServiceInput = z.input<typeof localService>;

/** A subscription as the user states it. */
export const subscriptionRequest = z.object({
  /** SERVICE@USER or SERVICE@USER#FINGERPRINT */
  service: z.string().max(200),
  /** HOST:PORT of this host; with port 0 the daemon chooses one. */
  listen: hostPort.or(z.string().regex(/^(?:\[[0-9a-fA-F:]+\]|[^:]+):0$/)).optional(),
  /** Asks for unencrypted data, which the service must consent to. */
  plain: z.boolean().default(false),
  /** How long to wait for an absent provider, 0: fail at once. */
  waitMs: z.int().min(0).max(3_600_000).default(0),
  /** Where channels that the provider opens are delivered. */
  accept: z.record(name, target).default({}),
});
export type SubscriptionRequest = z.infer<typeof subscriptionRequest>;

/** A local port at which the daemon takes connections or datagrams of a channel. */
export const listener = z.object({ channel: name, proto: transport, address: hostPort });

/** Open connections that are spliced at cells of an IST, by whether their ports pass unchanged (Pure TCP Splice). */
export const spliceCounts = z.object({ passive: z.int(), pure: z.int() });

/** How a subscription's bytes travel, and what else was tried. */
export const pathReport = z.object({
  path: z.enum(["direct", "cell", "stream", "none"]),
  detail: z.string(),
  tried: z.array(z.object({ path: z.string(), outcome: z.string() })),
});

/** A subscription, and how it fares. */
export const subscriptionReport = z.object({
  id: subscriptionId,
  service: name,
  user: name,
  state: z.enum(["negotiating", "waiting", "active", "failed"]),
  code: code.optional(),
  message: z.string().optional(),
  fingerprint: z.string().optional(),
  listen: z.array(listener),
  plain: z.boolean(),
  tcp: pathReport,
  udp: pathReport,
  connections: z.int(),
  splices: spliceCounts,
  grantExpires: z.string().optional(),
});
export type SubscriptionReport = z.infer<typeof subscriptionReport>;

/** A service that this daemon provides, and how it fares. */
export const serviceReport = z.object({
  name,
  owner: name.optional(),
  channels: z.array(localChannel),
  behaviour: name,
  plain: z.boolean(),
  allow: z.array(z.string()),
  anyone: z.boolean(),
  state: z.enum(["offered", "refused", "offline"]),
  code: code.optional(),
  message: z.string().optional(),
  connections: z.int(),
  subscribers: z.int(),
});
export type ServiceReport = z.infer<typeof serviceReport>;

/** A session as the daemon sees it. */
export const sessionReport = z.object({
  origin: z.string(),
  state: z.enum(["connecting", "up", "down"]),
  since: z.string(),
  rttMs: z.number().optional(),
  observed: z.string().optional(),
  code: code.optional(),
  message: z.string().optional(),
});

/** A link with another daemon. */
export const linkReport = z.object({
  user: name.optional(),
  fingerprint: z.string(),
  generation: hexId.optional(),
  control: z.enum(["direct", "ist", "isb", "none"]),
  allocation: hexId.optional(),
  ist: z.string().optional(),
  cells: z.array(z.int()),
  udp: pathReport,
  connections: z.int(),
  splices: spliceCounts,
});

/** Everything about a daemon that `isthmus status` shows. */
export const statusReport = z.object({
  version: z.string(),
  started: z.string(),
  pid: z.int(),
  device: z.object({ fingerprint: z.string(), user: name.optional(), name: name.optional() }),
  cipher: z.string().meta({ description: "where AEAD runs: native or node:crypto" }),
  isb: sessionReport.optional(),
  ists: z.array(sessionReport.extend({ name, fingerprint: z.string() })),
  reachable: z.object({
    state: z.enum(["unknown", "yes", "no", "off"]),
    address: z.string().optional(),
    message: z.string().optional(),
  }),
  services: z.array(serviceReport),
  subscriptions: z.array(subscriptionReport),
  links: z.array(linkReport),
});
export type StatusReport = z.infer<typeof statusReport>;

/** A key that is remembered; `offered` is another one that the peer has shown since and that was refused. */
export const pin = z.object({
  peer: z.string(),
  fingerprint: z.string(),
  since: z.string(),
  offered: z.string().optional(),
});

/** One line of the daemon's log; what else it carries differs. */
export const logLine = z.object({ time: z.string(), level: z.string(), msg: z.string() }).loose();

export const apiError = z.object({ code: z.string(), message: z.string() });

const none = z.object({});

/**
 * The daemon's own API: HTTP with JSON over its Unix socket, which only its owner may open. Streams (`watch`, `logs`) are
 * one JSON object per line. Errors have a status of 4xx or 5xx and the fields `code` and `message`. Times are ISO 8601.
 */
export const localApi = {
  status: { method: "GET", path: "/v1/status", body: none, reply: statusReport },
  login: {
    method: "POST",
    path: "/v1/login",
    body: z.object({ invite: z.string().max(4096), device: name.optional() }),
    reply: z.object({ user: name.optional(), device: name.optional(), isb: z.string() }),
  },
  logout: { method: "POST", path: "/v1/logout", body: none, reply: none },
  provide: {
    method: "POST",
    path: "/v1/services",
    body: localService.extend({ take: z.boolean().default(false) }),
    reply: serviceReport,
  },
  withdraw: { method: "POST", path: "/v1/services/withdraw", body: z.object({ name }), reply: none },
  list: {
    method: "POST",
    path: "/v1/directory",
    body: z.object({ user: name.optional(), service: name.optional(), away: z.boolean().default(false) }),
    reply: z.object({ entries: z.array(directoryEntry) }),
  },
  subscribe: { method: "POST", path: "/v1/subscriptions", body: subscriptionRequest, reply: subscriptionReport },
  unsubscribe: {
    method: "POST",
    path: "/v1/subscriptions/end",
    body: z.object({ service: z.string().max(200).meta({ description: "SERVICE@USER or the subscription's id" }) }),
    reply: none,
  },
  trusted: { method: "GET", path: "/v1/trust", body: none, reply: z.object({ pins: z.array(pin) }) },
  trust: {
    method: "POST",
    path: "/v1/trust",
    body: z.object({ service: z.string().max(200), forget: z.boolean().default(false) }),
    reply: z.object({ peer: z.string(), fingerprint: z.string().optional() }),
  },
  invite: {
    method: "POST",
    path: "/v1/invites",
    body: z.object({
      lifetimeS: z
        .int()
        .min(60)
        .max(30 * 86_400)
        .default(86_400),
    }),
    reply: z.object({ invite: z.string() }),
  },
  devices: {
    method: "GET",
    path: "/v1/devices",
    body: none,
    reply: z.object({
      devices: z.array(
        z.object({
          name,
          fingerprint: z.string(),
          created: z.string(),
          revoked: z.boolean(),
          present: z.boolean(),
          self: z.boolean(),
        }),
      ),
    }),
  },
  revoke: { method: "POST", path: "/v1/devices/revoke", body: z.object({ fingerprint: z.string() }), reply: none },
  /** Asks the ISB whether a port of this host can be reached from outside. */
  probe: { method: "POST", path: "/v1/probe", body: probeRequest, reply: probeReport },
  rotate: { method: "POST", path: "/v1/keys/rotate", body: none, reply: z.object({ fingerprint: z.string() }) },
  /** Streams of JSON lines; the reply is the schema of one line. */
  watch: {
    method: "GET",
    path: "/v1/watch",
    body: none,
    reply: z.object({
      event: z.enum(["present", "away", "gone"]),
      entry: directoryEntry.partial().extend({ service: name, user: name }),
    }),
  },
  logs: { method: "GET", path: "/v1/logs", body: none, reply: logLine },
} as const;

export type LocalApiName = keyof typeof localApi;
export type LocalApiInput<N extends LocalApiName> = z.input<(typeof localApi)[N]["body"]>;
export type LocalApiReply<N extends LocalApiName> = z.infer<(typeof localApi)[N]["reply"]>;

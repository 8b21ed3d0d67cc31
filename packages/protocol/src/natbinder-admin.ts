import { z } from "zod";
import { transport } from "./catalog.ts";

const mappable = z.int().min(1024).max(65_535);

/** A socket on a port, and the program that has it. `admin` stands for `isthmus natbinder map`. */
export const natbinderOwner = z.object({
  program: z.string(),
  pid: z.int(),
  uid: z.int(),
  since: z.string(),
  byAdmin: z.boolean(),
});

/** Whether the world gets through a mapping, as far as it can be known. */
export const natbinderReach = z.object({
  state: z.enum(["yes", "no", "unknown"]),
  /** A word for programs. */
  reason: z.string(),
  /** The same in a sentence, with addresses. */
  message: z.string(),
  /** When it was found out; absent before that. */
  since: z.string().optional(),
});
export type NatbinderReach = z.infer<typeof natbinderReach>;

/** A port that ought to be mapped, and how that fares. */
export const natbinderPort = z.object({
  protocol: transport,
  port: z.int(),
  state: z
    .enum(["mapped", "waiting", "held", "leaving"])
    .meta({ description: "held: another host has it; leaving: nobody wants it any more" }),
  /** Of the newest failure. */
  reason: z.string().optional(),
  leaseLeftS: z.number().optional(),
  /** Of a port that is mapped. */
  reachable: natbinderReach.optional(),
  owners: z.array(natbinderOwner),
});
export type NatbinderPort = z.infer<typeof natbinderPort>;

/** Everything about a natbinder that `isthmus natbinder status` shows. */
export const natbinderStatus = z.object({
  version: z.string(),
  started: z.string(),
  pid: z.int(),
  gateway: z.object({ kind: z.string(), address: z.string(), externalAddress: z.string().optional() }).optional(),
  /** How binds of all programs are seen, where they are, and why not in a better way, if they are not. */
  systemWide: z
    .object({ source: z.enum(["module", "cgroup", "sockets"]).optional(), trouble: z.string().optional() })
    .optional(),
  /** Why the ideal state is in memory only, if it is. */
  diskTrouble: z.string().optional(),
  ports: z.array(natbinderPort),
});
export type NatbinderStatus = z.infer<typeof natbinderStatus>;

/** What there is to say about one port. */
export const natbinderExplanation = z.object({
  protocol: transport,
  port: z.int(),
  /** Absent where nobody here wants it. */
  wanted: natbinderPort.optional(),
  /** Why a bind of it would be left alone, if it would. */
  excluded: z.string().optional(),
  /** The gateway's own entry. */
  entry: z
    .object({ address: z.string(), port: z.int(), description: z.string(), leaseLeftS: z.number(), own: z.boolean() })
    .optional(),
  /** Why the gateway's entry is not known, if it is not. */
  entryUnknown: z.string().optional(),
});
export type NatbinderExplanation = z.infer<typeof natbinderExplanation>;

const portOf = z.object({ protocol: transport, port: mappable });

/** Natbinder's admin API: HTTP with JSON over its admin socket, which only its owner and root may open. */
export const natbinderAdmin = {
  status: { method: "GET", path: "/v1/status", body: z.object({}), reply: natbinderStatus },
  page: { method: "POST", path: "/v1/page", body: z.object({}), reply: z.object({ url: z.string() }) },
  map: { method: "POST", path: "/v1/map", body: portOf, reply: natbinderPort },
  unmap: { method: "POST", path: "/v1/unmap", body: portOf, reply: z.object({}) },
  explain: {
    method: "POST",
    path: "/v1/explain",
    body: z.object({ protocol: transport, port: z.int().min(1).max(65_535) }),
    reply: natbinderExplanation,
  },
} as const;

export type NatbinderAdminName = keyof typeof natbinderAdmin;

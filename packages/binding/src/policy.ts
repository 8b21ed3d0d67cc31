import type { Protocol } from "@isthmus/portmap";
import { z } from "zod";

/** Below are ports of the system, which no program gets opened to the world by chance. */
const FIRST_UNPRIVILEGED_PORT = 1024;

const port = z.int().min(1).max(65_535);

const exclusion = z.strictObject({
  protocol: z.enum(["tcp", "udp"]).optional().meta({ description: "both, if it is not said" }),
  port: port.meta({ description: "the port, or the first of a range" }),
  to: port.optional().meta({ description: "the last of the range" }),
});

const programRule = z.strictObject({
  program: z
    .string()
    .min(1)
    .max(15)
    .meta({ description: "its name as the kernel has it, at most 15 characters; `*` stands for any" }),
  uid: z.int().nonnegative().optional().meta({ description: "of the user who runs it; any, if it is not said" }),
  map: z.boolean().meta({ description: "whether its ports are mapped" }),
});

/** Which binds become mappings. */
export const policySchema = z.strictObject({
  /** IPv6 sockets that take IPv4 too, as most programs of today have. */
  dualStack: z.boolean().default(true),
  exclusions: z.array(exclusion).default([]),
  /** The first that fits decides; where none does, the bind is mapped. */
  programs: z.array(programRule).default([]),
});
export type Policy = z.infer<typeof policySchema>;

/** A call of bind(), as one of the ways in saw it. */
export interface Bind {
  family: "ipv4" | "ipv6";
  protocol: Protocol | "other";
  /** In the notation of its family. */
  address: string;
  /** The one asked for: 0 lets the kernel choose. */
  port: number;
  /** IPV6_V6ONLY; of no meaning with `ipv4`. */
  v6only: boolean;
  program: string;
  uid: number;
}

/** Why a bind is none of ours, in the order in which it is looked at. */
export const IRRELEVANT = {
  "other-protocol": "neither TCP nor UDP",
  "any-port": "the kernel was to choose the port",
  "privileged-port": "ports below 1024 are left alone",
  "specific-address": "the socket listens on one address only",
  "ipv6-only": "the socket takes no IPv4",
  excluded: "the port is excluded by the configuration",
  "program-excluded": "the program is excluded by the configuration",
} as const;
export type Irrelevant = keyof typeof IRRELEVANT;

/** Every form of `::` and of `::ffff:0.0.0.0` that is in use. */
const ANY_IPV6 = ["::", "::0", "0:0:0:0:0:0:0:0"];
const MAPPED_ANY = ["::ffff:0.0.0.0", "::ffff:0:0"];

/** Undefined when the bind is to be mapped. */
export function irrelevance(bind: Bind, policy: Policy): Irrelevant | undefined {
  const { protocol, port: wanted } = bind;
  if (protocol === "other") return "other-protocol";
  if (wanted === 0) return "any-port";
  if (wanted < FIRST_UNPRIVILEGED_PORT) return "privileged-port";
  const address = addressReason(bind, policy);
  if (address) return address;
  const isExcluded = policy.exclusions.some(
    (one) =>
      (one.protocol === undefined || one.protocol === protocol) && wanted >= one.port && wanted <= (one.to ?? one.port),
  );
  if (isExcluded) return "excluded";
  const rule = policy.programs.find(
    ({ program, uid }) => (program === "*" || program === bind.program) && (uid === undefined || uid === bind.uid),
  );
  return rule?.map === false ? "program-excluded" : undefined;
}

function addressReason({ family, address, v6only }: Bind, { dualStack }: Policy): Irrelevant | undefined {
  if (family === "ipv4") return address === "0.0.0.0" ? undefined : "specific-address";
  const lower = address.toLowerCase();
  if (!ANY_IPV6.includes(lower) && !MAPPED_ANY.includes(lower)) return "specific-address";
  return v6only || !dualStack ? "ipv6-only" : undefined;
}

import { type AllocationLimits, origin } from "@isthmus/protocol";
import type { Rate } from "@isthmus/session";
import { z } from "zod";

const rate = (perSecond: number, burst: number, description: string) =>
  z
    .object({
      per_second: z.number().positive().default(perSecond).meta({ description: "in the long run" }),
      burst: z.int().min(1).default(burst).meta({ description: "at once" }),
    })
    .prefault({})
    .meta({ description });

/** A limit of an allocation: zero is none. */
const limit = (description: string) =>
  z
    .int()
    .nonnegative()
    .default(0)
    .meta({ description: `${description}, 0: no limit` });

/** What an operator may set of a broker; times are in seconds. The defaults are meant to be right for everybody. */
export const brokerSettings = z.object({
  public: z.array(origin).max(64).default([]).meta({
    description: "addresses under which clients reach this ISB, as ws(s)://HOST:PORT; none: all addresses of this host",
  }),
  heartbeat_seconds: z
    .number()
    .min(0.1)
    .max(600)
    .default(20)
    .meta({ description: "how often daemons and ISTs show that they live" }),
  grace_seconds: z
    .number()
    .min(0)
    .max(600)
    .default(20)
    .meta({ description: "how long the services of a daemon whose session broke stay in the directory" }),
  sessions: z.int().min(1).default(100_000).meta({ description: "sessions of daemons and ISTs together" }),
  devices_per_user: z.int().min(1).max(1000).default(100).meta({ description: "devices that one user may register" }),
  rates: z
    .object({
      connects: rate(50, 500, "connections from one address (an IPv6 /64); a whole company may be behind it"),
      requests: rate(50, 500, "requests of one device"),
      service_changes: rate(5, 300, "services that one device offers anew or changes"),
      subscribes: rate(20, 300, "subscribes of one user, all devices together"),
      invites: rate(0.1, 10, "invites that one user makes for further devices"),
      control_frames: rate(50, 200, "control frames that one device sends through the ISB"),
      probes_per_device: rate(0.2, 5, "dials to one device's leg port"),
      probes_per_address: rate(2, 50, "dials to the leg ports of one address (an IPv6 /64)"),
      port_probes_per_device: rate(0.1, 10, "dials to ports that one device asks about"),
      port_probes_per_user: rate(0.5, 30, "dials to ports that one user asks about, all devices together"),
      port_probes_per_address: rate(1, 50, "dials to ports that are asked about at one address (an IPv6 /64)"),
    })
    .prefault({}),
  allocation: z
    .object({
      splices: limit("connections at once"),
      idle_seconds: limit("a connection on which nothing moves this long ends"),
      total_seconds: limit("a connection that is this old ends"),
      bytes: limit("bytes of one connection, both ways together"),
      bytes_per_second: limit("of all connections together, both ways"),
      half_seconds: z
        .number()
        .min(0.1)
        .max(130)
        .default(3.5)
        .meta({ description: "how long a leg waits for its half" }),
    })
    .prefault({})
    .meta({ description: "what ISTs hold the connections between two devices to" }),
});
export type BrokerSettings = z.infer<typeof brokerSettings>;
export type Rates = BrokerSettings["rates"];

export function rateOf({ per_second, burst }: Rates[keyof Rates]): Rate {
  return { perSecond: per_second, burst };
}

export function limitsOf(allocation: BrokerSettings["allocation"]): AllocationLimits {
  return {
    splices: allocation.splices,
    idleMs: allocation.idle_seconds * 1000,
    totalMs: allocation.total_seconds * 1000,
    bytes: allocation.bytes,
    bytesPerSecond: allocation.bytes_per_second,
    halfMs: Math.round(allocation.half_seconds * 1000),
  };
}

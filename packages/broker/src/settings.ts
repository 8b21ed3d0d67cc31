import { allocationLimits, origin } from "@isthmus/protocol";
import type { Rate } from "@isthmus/session";
import { z } from "zod";

const rate = (perSecond: number, burst: number) =>
  z
    .object({
      per_second: z.number().positive().default(perSecond).describe("in the long run"),
      burst: z.int().min(1).default(burst).describe("at once"),
    })
    .prefault({});

const limits = allocationLimits.shape;

/** What an operator may set of a broker. The defaults are meant to be right for everybody. */
export const brokerSettings = z.object({
  public: z
    .array(origin)
    .max(64)
    .default([])
    .describe("addresses under which clients reach this ISB, as ws(s)://HOST:PORT; empty: all addresses of this host"),
  heartbeat_ms: z
    .int()
    .min(100)
    .max(600_000)
    .default(20_000)
    .describe("how often daemons and ISTs show that they live"),
  grace_ms: z
    .int()
    .min(0)
    .max(600_000)
    .default(20_000)
    .describe("how long the services of a daemon whose session broke stay in the directory"),
  max_sessions: z.int().min(1).default(100_000).describe("sessions of daemons and ISTs together"),
  devices_per_user: z.int().min(1).max(1000).default(100).describe("devices that one user may register"),
  rates: z
    .object({
      connects: rate(50, 500).describe("connections from one address (an IPv6 /64); a whole company may be behind it"),
      requests: rate(50, 500).describe("requests of one device"),
      subscribes: rate(20, 300).describe("subscribes of one user, all devices together"),
      invites: rate(0.1, 10).describe("invites that one user makes for further devices"),
      control_frames: rate(50, 200).describe("control frames that one device sends through the ISB"),
      probes_per_device: rate(0.2, 5).describe("dials to one device's leg port"),
      probes_per_address: rate(2, 50).describe("dials to one address (an IPv6 /64)"),
    })
    .prefault({}),
  allocation: z
    .object({
      splices: limits.splices.default(0).describe("connections at once, 0: no limit"),
      idle_ms: limits.idleMs.default(0).describe("a connection on which nothing moves this long ends, 0: no limit"),
      total_ms: limits.totalMs.default(0).describe("a connection that is this old ends, 0: no limit"),
      bytes: limits.bytes.default(0).describe("bytes of one connection, 0: no limit"),
      bytes_per_second: limits.bytesPerSecond.default(0).describe("of all connections together, 0: no limit"),
      half_ms: limits.halfMs.default(3500).describe("how long a leg waits for its other half"),
    })
    .prefault({})
    .describe("what ISTs hold the connections between two devices to"),
});
export type BrokerSettings = z.infer<typeof brokerSettings>;
export type Rates = BrokerSettings["rates"];

export function rateOf({ per_second, burst }: Rates[keyof Rates]): Rate {
  return { perSecond: per_second, burst };
}

import { join } from "node:path";
import { policySchema } from "@isthmus/binding";
import { GATEWAY_KINDS } from "@isthmus/portmap";
import { daemonSocket, LOG_LEVELS, natbinderFolder, stateFolder } from "@isthmus/service";
import { z } from "zod";

/** SSDP, WS-Discovery, NAT-PMP and PCP, mDNS, LLMNR: what listens there is for the local network, whatever it binds. */
const LOCAL_PROTOCOLS = [1900, 3702, 5350, 5351, 5353, 5355].map((port) => ({ protocol: "udp" as const, port }));

/** Where this user's `isthmus` finds the daemon: not in the folder that systemd has made for natbinder. */
export function usualDaemonSocket(): string {
  return daemonSocket({ ...process.env, RUNTIME_DIRECTORY: undefined });
}

/** Natbinder's configuration: TOML, `ISTHMUS_NATBINDER_*`, flags. Nothing needs to be set. */
export const configSchema = z.object({
  state: z
    .string()
    .default(() => stateFolder("isthmus-natbinder"))
    .meta({ description: "folder of what outlives a restart: which ports are mapped, and for whom" }),
  socket: z
    .string()
    .default(() => join(natbinderFolder(), "ask.sock"))
    .meta({ description: "Unix socket at which programs ask; every user may open it" }),
  admin_socket: z
    .string()
    .default(() => join(natbinderFolder(), "admin.sock"))
    .meta({ description: "Unix socket of `isthmus natbinder`; only its owner and root may open it" }),
  daemon_socket: z
    .string()
    .default(() => usualDaemonSocket())
    .meta({
      description:
        "the user daemon's socket: by it the ISB is asked whether mapped ports can be reached from outside; empty: nobody is asked",
    }),
  log_level: z.enum(LOG_LEVELS).default("info").meta({ description: "least level that is logged" }),
  system_wide: z.enum(["auto", "off", "module", "cgroup", "sockets"]).default("auto").meta({
    description:
      "whose ports are mapped: of programs under `natbinder run`, or of all, seen by the kernel module, by eBPF or in the list of sockets; `auto` is the module where it is loaded",
  }),
  cgroup: z.string().default("").meta({
    description: "the control group that eBPF sees, such as `user.slice`; empty for all",
  }),
  dual_stack: z
    .boolean()
    .default(true)
    .meta({ description: "maps ports of IPv6 sockets that take IPv4 too, as most programs of today have" }),
  exclude: policySchema.shape.exclusions
    .unwrap()
    .default([...LOCAL_PROTOCOLS])
    .meta({ description: "ports that are never mapped: at first those of protocols of a local network" }),
  program: policySchema.shape.programs.meta({
    description: "rules for programs: the first that fits decides, and where none does the port is mapped",
  }),
  protocols: z
    .array(z.enum(GATEWAY_KINDS))
    .min(1)
    .default([...GATEWAY_KINDS])
    .meta({ description: "what gateways are asked by, the most preferred first" }),
  compare_seconds: z.int().min(1).max(3600).default(60).meta({
    description: "between two looks at the gateway's list; so old may be what is known of other hosts' ports",
  }),
  wait_ms: z
    .int()
    .min(50)
    .max(10_000)
    .default(500)
    .meta({ description: "what a program may wait in bind(); `natbinder run` has the same setting" }),
  lease_seconds: z
    .int()
    .min(60)
    .max(604_800)
    .default(3600)
    .meta({ description: "how long a mapping lasts that nobody renews any more: after a crash of this host, say" }),
  most_sockets_per_user: z
    .int()
    .min(1)
    .default(256)
    .meta({ description: "sockets of one user whose ports are mapped; those beyond are let be" }),
});
export type Config = z.infer<typeof configSchema>;

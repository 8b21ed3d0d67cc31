import { localService, port, subscriptionRequest } from "@isthmus/protocol";
import { daemonSocket, LOG_LEVELS, stateFolder } from "@isthmus/service";
import { z } from "zod";

/** The user daemon's configuration: TOML, `ISTHMUS_DAEMON_*`, flags. What is provided and used here is added to what the command line set up. */
export const configSchema = z.object({
  state: z
    .string()
    .default(() => stateFolder("isthmus"))
    .meta({ description: "folder of the device key and of what the daemon remembers" }),
  socket: z
    .string()
    .default(() => daemonSocket())
    .meta({ description: "Unix socket of the local API; only its owner may open it" }),
  log_level: z.enum(LOG_LEVELS).default("info").meta({ description: "least level that is logged" }),
  invite: z.string().optional().meta({ description: "logs in at the first start, where nobody runs 'isthmus login'" }),
  device: z.string().optional().meta({ description: "name of this device, with an invite" }),
  direct: z
    .boolean()
    .default(true)
    .meta({ description: "takes connections of other daemons at the leg port, if this host proves to be reachable" }),
  leg_port: port.or(z.literal(0)).default(0).meta({ description: "TCP and UDP port of direct legs; 0: any free one" }),
  insecure: z.boolean().default(false).meta({ description: "allows sessions over ws:// to other hosts" }),
  most_streams: z.int().min(1).default(8000).meta({
    description: "connections and UDP flows at a time, above which others may open no more; each takes two descriptors",
  }),
  provide: z.array(localService).default([]).meta({ description: "services of this host and its LAN" }),
  subscribe: z.array(subscriptionRequest).default([]).meta({ description: "remote services that are used here" }),
});
export type Config = z.infer<typeof configSchema>;

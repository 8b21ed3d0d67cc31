import { hostPort } from "@isthmus/protocol";
import { relayConfig } from "@isthmus/relay";
import { LOG_LEVELS } from "@isthmus/service";
import { z } from "zod";

/** The IST's configuration: TOML, `ISTHMUS_IST_*`, flags. Nothing needs to be set but an ISB to serve. */
export const configSchema = relayConfig.extend({
  admin: z
    .object({
      listen: hostPort.default("127.0.0.1:9444").meta({ description: "where health and metrics are" }),
    })
    .prefault({}),
  log_level: z.enum(LOG_LEVELS).default("info").meta({ description: "least level that is logged" }),
});
export type Config = z.infer<typeof configSchema>;

import { brokerSettings } from "@isthmus/broker";
import { certificateFingerprint, hostPort, isLoopback, parseHostPort } from "@isthmus/protocol";
import { relayConfig } from "@isthmus/relay";
import { LOG_LEVELS, stateFolder } from "@isthmus/service";
import { z } from "zod";

/** The ISB's configuration: TOML, `ISTHMUS_ISB_*`, flags. Nothing needs to be set. */
export const configSchema = brokerSettings
  .extend({
    data: z
      .string()
      .min(1)
      .default(() => stateFolder("isthmus-isb"))
      .meta({ description: "folder of key, certificate, admin token and (by default) the store; made if missing" }),
    store: z.string().optional().meta({
      description: "a folder, or the URL of a Redis that several ISBs share; none: the folder 'store' in 'data'",
    }),
    listen: hostPort.default("[::]:7443").meta({ description: "where sessions of daemons and ISTs are taken" }),
    tls: z
      .object({
        mode: z.enum(["on", "proxy", "off"]).default("on").meta({
          description:
            "on: wss; proxy: ws from a proxy that ends TLS, so that leg ports are not dialled back; off: ws, on loopback",
        }),
        cert: z
          .string()
          .optional()
          .meta({ description: "PEM file of the certificate; none: a self-signed one is made" }),
        key: z.string().optional().meta({ description: "PEM file of its key" }),
        pin: certificateFingerprint.optional().meta({
          description:
            "SHA-256 of the certificate that invites tell clients to trust; by default the self-signed one's, and " +
            "none (the system's CAs) where a certificate is given or a proxy ends TLS",
        }),
      })
      .refine(({ cert, key }) => (cert === undefined) === (key === undefined), { error: "cert and key go together" })
      .prefault({}),
    admin: z
      .object({
        listen: hostPort.default("127.0.0.1:9443").meta({ description: "where the admin API, health and metrics are" }),
        token: z.string().min(16).optional().meta({
          description: "bearer token of the admin API; none: one is made, in 'admin-token' of the data folder",
        }),
      })
      .prefault({}),
    with_ist: z.boolean().default(false).meta({ description: "runs an IST in the same process" }),
    ist: relayConfig
      .omit({ data: true, isbs: true, registration: true })
      .prefault({})
      .meta({ description: "settings of that IST; its data is the folder 'ist' in 'data'" }),
    log_level: z.enum(LOG_LEVELS).default("info").meta({ description: "least level that is logged" }),
  })
  .refine(({ tls, public: given }) => tls.mode !== "proxy" || given.length > 0, {
    error: "tls.mode = 'proxy' needs 'public': the addresses of the proxy",
  })
  .refine(({ tls, listen }) => tls.mode !== "off" || isLoopback(parseHostPort(listen)!.host), {
    error: "tls.mode = 'off' is for a 'listen' on loopback; behind a proxy that ends TLS it is 'proxy'",
  });
export type Config = z.infer<typeof configSchema>;

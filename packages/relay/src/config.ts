import { isIP } from "node:net";
import { DEFAULT_PORTS, DRIVERS } from "@isthmus/datapath";
import { certificateFingerprint, fingerprint, hostPort, name, parseHostPort } from "@isthmus/protocol";
import { stateFolder } from "@isthmus/service";
import { z } from "zod";

/** HOST or HOST:PORT; an IPv6 address may stand without brackets where no port follows. */
const publicAddress = z
  .string()
  .max(270)
  .refine((text) => isIP(unbracketed(text)) !== 0 || parseHostPort(text) !== undefined || isHostName(text), {
    error: "not HOST or HOST:PORT",
  });

const ipAddress = z.string().refine((text) => isIP(text) !== 0, { error: "not an IP address" });
const tcpPort = z.int().min(0).max(65535);
const seconds = z.number().positive().max(86_400);
const count = z.int().positive();

/** An ISB from which allocations are taken. */
export const brokerConfig = z.object({
  addresses: z.array(hostPort).min(1).max(8).meta({ description: "where the ISB is; tried in turn" }),
  fingerprint: fingerprint.meta({ description: "fingerprint of the ISB's key" }),
  certificate: certificateFingerprint
    .optional()
    .meta({ description: "SHA-256 of the ISB's certificate, trusted instead of the system's CAs" }),
  secure: z.boolean().default(true).meta({ description: "wss; false: ws, not encrypted" }),
});
export type BrokerConfig = z.infer<typeof brokerConfig>;

/** Everything that an operator can set of a relay; times are in seconds. */
export const relayConfig = z.object({
  data: z
    .string()
    .min(1)
    .default(() => stateFolder("isthmus-ist"))
    .meta({ description: "folder of key, certificate, ISBs and allocations; made if missing" }),
  name: name.default("ist").meta({ description: "name of this IST, as users see it in `explain`" }),
  listen: z
    .object({
      addresses: z
        .array(ipAddress)
        .max(8)
        .default([])
        .meta({ description: "local addresses of the session and stream endpoint; none: all, IPv4 and IPv6" }),
      port: tcpPort.default(443).meta({ description: "port of the session and stream endpoint; 0: any" }),
    })
    .prefault({}),
  public: z
    .array(publicAddress)
    .max(16)
    .default([])
    .meta({
      description:
        "how daemons reach this IST, HOST or HOST:PORT, best one of each IP version; cells are ports of the same " +
        "hosts. None: the addresses of this host's interfaces",
    }),
  insecure: z
    .boolean()
    .default(false)
    .meta({ description: "takes sessions that are not encrypted (ws), and says so to daemons" }),
  tls: z
    .object({
      cert: z.string().optional().meta({ description: "PEM file of the certificate; none: a self-signed one is made" }),
      key: z.string().optional().meta({ description: "PEM file of its key" }),
      pin: z.boolean().optional().meta({
        description: "daemons trust this very certificate instead of the system's CAs; by default if self-signed",
      }),
    })
    .refine(({ cert, key }) => (cert === undefined) === (key === undefined), {
      error: "cert and key go together",
    })
    .prefault({}),
  isbs: z
    .array(brokerConfig)
    .max(16)
    .default([])
    .meta({ description: "ISBs from which allocations are taken, beside those joined by an invite" }),
  registration: z
    .string()
    .max(4096)
    .optional()
    .meta({ description: "invite of an ISB, used once: the ISB is then kept in the data folder" }),
  data_path: z
    .object({
      driver: z
        .enum(DRIVERS)
        .default("auto")
        .meta({
          description:
            "what moves the bytes: the kernel's module (kernel), BPF programs (ebpf), this process (userspace), or the " +
            "first of these that the host can run (auto)",
        }),
      addresses: z
        .array(ipAddress)
        .max(8)
        .default([])
        .meta({ description: "local addresses of the cells, of userspace alone; none: all, IPv4 and IPv6" }),
      ports: z
        .object({
          from: z.int().min(1024).max(65535).default(DEFAULT_PORTS.from).meta({ description: "first port of cells" }),
          to: z.int().min(1024).max(65535).default(DEFAULT_PORTS.to).meta({ description: "last port of cells" }),
        })
        .refine(({ from, to }) => from <= to, { error: "'from' is above 'to'" })
        .prefault({}),
      pure: z
        .enum(["auto", "off"])
        .default("auto")
        .meta({
          description:
            "Pure Splices, whose ports pass unchanged: where the data path can and a side's NAT keeps its ports (auto), or " +
            "never (off)",
        }),
      ebpf_splices: z.int().min(1024).max(8_388_608).default(524_288).meta({
        description: "room for splices in the tables of the BPF programs; those taken over stay as large as they are",
      }),
      udp_idle_seconds: seconds
        .default(60)
        .meta({ description: "a UDP splice on which nothing moves this long is forgotten" }),
    })
    .prefault({}),
  allocations: z
    .object({
      most: count
        .default(1000)
        .meta({ description: "allocations at once; at rest one costs 8 file descriptors in user space" }),
      join_seconds: seconds
        .default(30)
        .meta({ description: "an allocation that both sides have not joined after this is freed: not-joined" }),
      gone_seconds: seconds
        .default(60)
        .meta({ description: "a joined allocation whose side is away this long is freed: silent" }),
    })
    .prefault({}),
  sessions: z
    .object({
      most: count.default(2000).meta({ description: "sessions at once" }),
      heartbeat_seconds: seconds.default(3).meta({ description: "daemons ping this often" }),
      connects_per_second: count
        .default(20)
        .meta({ description: "new sessions per second and source; ten times as many at once" }),
      requests_per_second: count
        .default(500)
        .meta({ description: "requests per second and daemon; twenty times as many at once" }),
      control_frames_per_second: count
        .default(2000)
        .meta({ description: "control frames per second of one side of an allocation; twice as many at once" }),
      cells_answer_seconds: seconds.default(5).meta({ description: "how long a daemon may take to confirm new cells" }),
    })
    .prefault({}),
  connections: z
    .object({
      most_pending: count
        .default(4096)
        .meta({ description: "connections that are no session yet, or a leg without a peer" }),
      most_pending_per_source: count
        .default(1024)
        .meta({ description: "the same, of one source address; a daemon may open a thousand connections at once" }),
      greeting_seconds: seconds
        .default(5)
        .meta({ description: "a connection must show what it is within this: bad-leg-header" }),
      handshake_seconds: seconds.default(10).meta({ description: "TLS and upgrade must be done within this" }),
      stream_half_seconds: seconds
        .default(10)
        .meta({ description: "an unpaired leg at the stream endpoint ends after this: no-peer-leg" }),
    })
    .prefault({}),
  load_seconds: seconds.default(5).meta({ description: "how often ISBs are told the load" }),
  drain_seconds: z
    .number()
    .min(0)
    .max(25)
    .default(20)
    .meta({ description: "at a stop splices may finish for this long; then they end: drained" }),
  lock: z
    .string()
    .min(1)
    .max(64)
    .default("isthmus-ist")
    .meta({ description: "one IST of this lock name runs per host (network namespace)" }),
});
export type RelayConfig = z.infer<typeof relayConfig>;

function unbracketed(text: string): string {
  return /^\[(.*)\]$/.exec(text)?.[1] ?? text;
}

function isHostName(text: string): boolean {
  return parseHostPort(`${text}:1`) !== undefined;
}

import { type Binding, irrelevance, type Policy, type PortEntry, type ReachCheck } from "@isthmus/binding";
import { ownAddresses, type PortMapper, PortmapError } from "@isthmus/portmap";
import {
  type Code,
  explain as explainIssue,
  IsthmusError,
  type NatbinderExplanation,
  type NatbinderPort,
  natbinderAdmin,
  toIsthmusError,
} from "@isthmus/protocol";
import { addHealthRoutes, type Logger, type Metrics } from "@isthmus/service";
import { type FastifyInstance, fastify } from "fastify";
import { adminOwner } from "./open-sockets.ts";
import type { PageServer } from "./page-server.ts";
import { reportOf, type StatusReport } from "./status.ts";

const BODY_LIMIT_BYTES = 4096;
const GATEWAY_TIMEOUT_MS = 2000;

export interface AdminApiOptions {
  binding: Binding;
  mapper: PortMapper;
  policy: Policy;
  reach: ReachCheck;
  status: StatusReport;
  page: PageServer;
  metrics: Metrics;
  logger: Logger;
}

interface PortName {
  protocol: "tcp" | "udp";
  port: number;
}

/** What each code is in HTTP. */
const STATUS: Partial<Record<Code, number>> = { "bad-request": 400, "port-taken": 409, internal: 500 };

/** Natbinder's admin API as a Fastify app, not listening yet. */
export function createAdminApi(options: AdminApiOptions): FastifyInstance {
  const { binding, mapper, reach, status, page, metrics, logger } = options;
  const app = fastify({ bodyLimit: BODY_LIMIT_BYTES, forceCloseConnections: true });
  const portAt = ({ protocol, port }: PortName): PortEntry | undefined =>
    binding.entries.find((entry) => entry.protocol === protocol && entry.port === port);

  const calls = {
    status: () => status.read(),
    page: async () => ({ url: await page.open() }),
    map: async (name: PortName): Promise<NatbinderPort> => {
      const answer = await binding.map({ ...name, namespace: "" }, { socket: adminOwner(name), program: "admin" });
      if (answer.answer === "failed") {
        throw new IsthmusError("port-taken", `the port belongs to ${answer.holder ?? "another host"}`);
      }
      return reportOf(portAt(name)!, reach);
    },
    unmap: async (name: PortName): Promise<object> => {
      const owners = portAt(name)?.owners ?? [];
      if (!owners.some(({ socket }) => socket === adminOwner(name))) {
        const [owner] = owners;
        if (!owner) throw new IsthmusError("bad-request", "nobody has asked for that port");
        throw new IsthmusError(
          "port-taken",
          `${owner.program} (process ${owner.pid}) has the port: end it, or exclude the port in the configuration`,
        );
      }
      binding.close("", adminOwner(name));
      return {};
    },
    explain: (name: PortName) => explain(name, portAt(name), options),
  };

  for (const [name, call] of Object.entries(calls)) {
    const { method, path, body: schema } = natbinderAdmin[name as keyof typeof calls];
    app.route({
      method,
      url: path,
      handler: async (request) => {
        const parsed = schema.safeParse(request.body ?? {});
        if (!parsed.success) throw new IsthmusError("bad-request", explainIssue(parsed.error));
        return (call as (body: unknown) => unknown)(parsed.data);
      },
    });
  }
  addHealthRoutes(app, { metrics, ready: () => (mapper.gateway ? undefined : "no gateway answers") });
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    // Fastify's own complaints (no JSON, too large) are the caller's fault as well.
    const isFastify = error.statusCode !== undefined && error.statusCode < 500;
    const known = isFastify ? new IsthmusError("bad-request", error.message) : toIsthmusError(error);
    if (known.code === "internal") logger.error({ err: error }, "an admin request failed");
    return reply.status(STATUS[known.code] ?? 502).send({ code: known.code, message: known.message });
  });
  return app;
}

async function explain(
  { protocol, port }: PortName,
  wanted: PortEntry | undefined,
  { mapper, policy, reach }: AdminApiOptions,
): Promise<NatbinderExplanation> {
  const anybody = { family: "ipv4", address: "0.0.0.0", v6only: false, program: "", uid: -1 } as const;
  const excluded = irrelevance({ ...anybody, protocol, port }, policy);
  const explanation: NatbinderExplanation = {
    protocol,
    port,
    ...(wanted && { wanted: reportOf(wanted, reach) }),
    ...(excluded && { excluded }),
  };
  try {
    const entry = await mapper.lookUp({ protocol, externalPort: port }, { timeoutMs: GATEWAY_TIMEOUT_MS });
    if (!entry) return explanation;
    const { internalAddress: address, internalPort, description, lifetimeSeconds } = entry;
    const own = ownAddresses().includes(address);
    return { ...explanation, entry: { address, port: internalPort, description, leaseLeftS: lifetimeSeconds, own } };
  } catch (error) {
    return { ...explanation, entryUnknown: error instanceof PortmapError ? error.message : String(error) };
  }
}

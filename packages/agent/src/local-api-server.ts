import {
  type Code,
  explain,
  IsthmusError,
  type LocalApiName,
  type LocalApiReply,
  localApi,
  toIsthmusError,
} from "@isthmus/protocol";
import { addHealthRoutes, type Logger, type Metrics } from "@isthmus/service";
import { type FastifyInstance, fastify } from "fastify";
import type { z } from "zod";
import type { Agent } from "./agent.ts";
import { LineStream } from "./line-stream.ts";
import type { LogRing } from "./log-ring.ts";

const BODY_LIMIT_BYTES = 256 * 1024;

type Calls = {
  [N in Exclude<LocalApiName, "watch" | "logs">]: (
    body: z.infer<(typeof localApi)[N]["body"]>,
    /** The caller has gone. */
    gone: AbortSignal,
  ) => Promise<LocalApiReply<N>> | LocalApiReply<N>;
};

/** What each code is in HTTP; all others are 502: somebody else's refusal. */
const STATUS: Partial<Record<Code, number>> = {
  "bad-request": 400,
  "bad-message": 400,
  "invite-invalid": 400,
  "not-allowed": 403,
  "probes-off": 403,
  "unknown-user": 404,
  "unknown-service": 404,
  "no-such-service": 404,
  "no-such-subscription": 404,
  "name-taken": 409,
  "port-taken": 409,
  "too-many": 409,
  "peer-key-changed": 409,
  "rate-limited": 429,
  internal: 500,
  "not-logged-in": 503,
  disconnected: 503,
  "provider-away": 503,
  timeout: 504,
};

export interface LocalApiOptions {
  agent: Agent;
  logs: LogRing;
  metrics: Metrics;
  logger: Logger;
}

/** The daemon's own API as a Fastify app, not listening yet. */
export function createLocalApi({ agent, logs, metrics, logger }: LocalApiOptions): FastifyInstance {
  const app = fastify({ bodyLimit: BODY_LIMIT_BYTES, forceCloseConnections: true });
  const calls: Calls = {
    status: () => agent.status(),
    login: ({ invite, device }) => agent.login(invite, device),
    logout: async () => {
      await agent.logout();
      return {};
    },
    provide: ({ take, ...service }) => agent.provide(service, { take }),
    withdraw: async ({ name }) => {
      await agent.withdraw(name);
      return {};
    },
    list: async ({ user, service, away }) => ({
      entries: await agent.list({ away, ...(user ? { user } : {}), ...(service ? { service } : {}) }),
    }),
    subscribe: (body, gone) => agent.subscribe(body, gone),
    unsubscribe: async ({ service }) => {
      await agent.unsubscribe(service);
      return {};
    },
    trusted: () => ({ pins: agent.pins.all() }),
    trust: ({ service, forget }) => agent.trust(service, forget),
    invite: async ({ lifetimeS }) => ({ invite: await agent.invite(lifetimeS) }),
    devices: async () => ({ devices: await agent.devices() }),
    revoke: async ({ fingerprint }) => {
      await agent.revoke(fingerprint);
      return {};
    },
    probe: (request) => agent.probe(request),
    rotate: async () => ({ fingerprint: await agent.rotate() }),
  };
  for (const [name, call] of Object.entries(calls)) {
    const { method, path, body: schema } = localApi[name as keyof Calls];
    app.route({
      method,
      url: path,
      handler: async (request, reply) => {
        const parsed = schema.safeParse(request.body ?? {});
        if (!parsed.success) throw new IsthmusError("bad-request", explain(parsed.error));
        const gone = new AbortController();
        reply.raw.once("close", () => gone.abort());
        return (call as (body: unknown, gone: AbortSignal) => unknown)(parsed.data, gone.signal);
      },
    });
  }
  app.get(localApi.watch.path, (_request, reply) => {
    reply.hijack();
    const { write } = new LineStream(reply.raw);
    const stop = agent.directory.watch((event) => write(JSON.stringify(event)));
    reply.raw.once("close", stop);
  });
  app.get<{ Querystring: { follow?: string; lines?: string } }>(localApi.logs.path, (request, reply) => {
    const lines = Number(request.query.lines ?? 100);
    if (!Number.isInteger(lines) || lines < 0) throw new IsthmusError("bad-request", "lines is not a number");
    reply.hijack();
    const { write } = new LineStream(reply.raw);
    for (const line of logs.newest(lines)) write(line.trimEnd());
    if (request.query.follow !== "1") {
      reply.raw.end();
      return;
    }
    reply.raw.once(
      "close",
      logs.follow((line) => write(line.trimEnd())),
    );
  });
  addHealthRoutes(app, { metrics, ready: () => agent.problem });
  app.setNotFoundHandler((_request, reply) =>
    reply.status(404).send({ code: "unknown-type", message: "there is no such call" }),
  );
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    // Fastify's own complaints (no JSON, too large) are the caller's fault as well.
    const isFastify = error.statusCode !== undefined && error.statusCode < 500;
    const known = isFastify ? new IsthmusError("bad-request", error.message) : toIsthmusError(error);
    if (known.code === "internal") logger.error({ err: error }, "a local request failed");
    return reply.status(STATUS[known.code] ?? 502).send({ code: known.code, message: known.message });
  });
  return app;
}

import type { FastifyInstance } from "fastify";
import type { Metrics } from "./metrics.ts";

/** Why a process is not ready, or nothing when it is. */
export type ReadyCheck = () => string | undefined | Promise<string | undefined>;

/** `/healthz` (the process runs), `/readyz` (it can do its job, else 503 and why) and `/metrics`. */
export function addHealthRoutes(app: FastifyInstance, options: { metrics: Metrics; ready: ReadyCheck }): void {
  const hidden = { schema: { hide: true } } as object;
  app.get("/healthz", hidden, async () => ({ status: "ok" }));
  app.get("/readyz", hidden, async (_request, reply) => {
    const problem = await options.ready();
    if (problem === undefined) return { status: "ready" };
    return reply.status(503).send({ status: "not ready", problem });
  });
  app.get("/metrics", hidden, async (_request, reply) => {
    return reply.type(options.metrics.contentType).send(await options.metrics.scrape());
  });
}

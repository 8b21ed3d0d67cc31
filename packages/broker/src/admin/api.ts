import { createHash, timingSafeEqual } from "node:crypto";
import swagger from "@fastify/swagger";
import { IsthmusError } from "@isthmus/protocol";
import { addHealthRoutes, type Logger, type Metrics } from "@isthmus/service";
import { type FastifyInstance, type FastifyRequest, fastify } from "fastify";
import { jsonSchemaTransform, serializerCompiler, validatorCompiler } from "fastify-type-provider-zod";
import type { Operations } from "../operations.ts";
import { sendError } from "./errors.ts";
import { addRoutes } from "./routes.ts";

/** The largest body of a request, an invite to be made, has about 150 bytes. */
const BODY_LIMIT_BYTES = 16 * 1024;
/** How long one request may take to arrive. */
const REQUEST_TIMEOUT_MS = 10_000;

export interface AdminApiOptions {
  operations: Operations;
  /** What every request under /v1 must show as bearer. */
  token: string;
  version: string;
  metrics: Metrics;
  /** Why this node cannot do all of its work. */
  notReady: () => string | undefined;
  logger: Logger;
}

/**
 * The operator's HTTP API, built but not listening: /v1 with a token, /healthz, /readyz and /metrics without. Its
 * OpenAPI document is made from the same schemas that check requests and answers.
 */
export async function createAdminApi(options: AdminApiOptions): Promise<FastifyInstance> {
  const { operations, token, version, metrics, notReady, logger } = options;
  const app = fastify({ bodyLimit: BODY_LIMIT_BYTES, requestTimeout: REQUEST_TIMEOUT_MS, forceCloseConnections: true });
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.setErrorHandler((error, _request, reply) => sendError(reply, error, logger));
  app.setNotFoundHandler((_request, reply) =>
    sendError(reply, new IsthmusError("unknown-type", "there is nothing at this path"), logger),
  );
  addHealthRoutes(app, { metrics, ready: notReady });
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Isthmus ISB admin API",
        description:
          "Users, invites, devices, services, ISTs, sessions and subscriptions of an Internet Service Broker.",
        version,
      },
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
      security: [{ token: [] }],
    },
    transform: jsonSchemaTransform,
  });
  await app.register(async (v1) => {
    const expected = digest(token);
    v1.addHook("onRequest", async (request) => {
      // Equal lengths, and a time that does not depend on where the first difference is.
      if (!timingSafeEqual(digest(bearerOf(request)), expected)) {
        throw new IsthmusError("not-allowed", "the bearer token is missing or wrong");
      }
    });
    addRoutes(v1, operations);
    v1.get("/v1/openapi.json", { schema: { hide: true } }, async (_request, reply) =>
      reply.type("application/json").send(JSON.stringify(app.swagger())),
    );
  });
  return app;
}

function bearerOf(request: FastifyRequest): string {
  return /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? "")?.[1] ?? "";
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

import { type Code, IsthmusError } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import type { FastifyReply } from "fastify";

/** HTTP status of each code that an operation may fail with; any other is 500. */
const STATUS: Partial<Record<Code, number>> = {
  "bad-request": 400,
  "bad-message": 400,
  "not-allowed": 401,
  "unknown-user": 404,
  "unknown-device": 404,
  "unknown-service": 404,
  "invite-invalid": 404,
  "unknown-type": 404,
  conflict: 409,
  "user-disabled": 409,
  "too-large": 413,
  "rate-limited": 429,
  "store-unavailable": 503,
};

/** Answers a failed request with `{code, message}`; what went wrong inside is for the log alone. */
export function sendError(reply: FastifyReply, error: unknown, logger: Logger): FastifyReply {
  const known = asIsthmusError(error);
  if (known.code === "internal") logger.error({ err: error }, "an admin request failed");
  return reply.status(STATUS[known.code] ?? 500).send({ code: known.code, message: known.message });
}

function asIsthmusError(error: unknown): IsthmusError {
  if (error instanceof IsthmusError) return error;
  const { validation, statusCode, message } = error as {
    validation?: { instancePath: string; message: string }[];
    statusCode?: number;
    message?: string;
  };
  const [complaint] = validation ?? [];
  if (complaint) return new IsthmusError("bad-request", `${complaint.instancePath}: ${complaint.message}`);
  if (statusCode === 413) return new IsthmusError("too-large", message);
  // Fastify's own complaints about a request: a body that is no JSON, an unknown media type.
  if (statusCode !== undefined && statusCode < 500) return new IsthmusError("bad-request", message);
  return new IsthmusError("internal", undefined, { cause: error });
}

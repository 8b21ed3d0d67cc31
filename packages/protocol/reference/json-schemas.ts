import { z } from "zod";
import * as protocol from "../src/index.ts";
import { jsonSchema } from "./types.ts";

type JsonSchema = z.core.JSONSchema.JSONSchema;

/** The fields of a frame around those of a message. */
function framed(frame: z.ZodObject, body: z.ZodObject): JsonSchema {
  const head = jsonSchema(frame);
  const fields = jsonSchema(body);
  return {
    type: "object",
    properties: { ...head.properties, ...fields.properties },
    required: [...(head.required ?? []), ...(fields.required ?? [])],
  };
}

function requestFrame(type: string): z.ZodObject {
  return z.object({ t: z.literal(type), id: protocol.requestId });
}

const okFrame = z.object({ t: z.literal("ok"), re: protocol.requestId });

const errorFrame = z.object({
  t: z.literal("error"),
  re: protocol.requestId,
  code: protocol.code,
  message: z.string().max(1000),
  retryAfterMs: z.int().nonnegative().optional(),
});

function eventFrame(type: string): z.ZodObject {
  return z.object({ t: z.literal(type) });
}

/** One schema for each frame that each side may send: `toServer.declare`, and its answer `toServer.declare.ok`. */
function framesOf(session: protocol.SessionInterface): Record<string, JsonSchema> {
  const frames: Record<string, JsonSchema> = {};
  for (const [direction, { requests, events }] of Object.entries(session) as [string, protocol.Vocabulary][]) {
    for (const [type, { request, reply }] of Object.entries(requests)) {
      frames[`${direction}.${type}`] = framed(requestFrame(type), request);
      frames[`${direction}.${type}.ok`] = framed(okFrame, reply);
    }
    for (const [type, body] of Object.entries(events)) frames[`${direction}.${type}`] = framed(eventFrame(type), body);
  }
  return frames;
}

function file(title: string, schemas: Record<string, JsonSchema>): string {
  const document = { $schema: "https://json-schema.org/draft/2020-12/schema", title, $defs: schemas };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

/** JSON Schema files by name. They say less than the code: what a refinement asks for stands in the description. */
export function jsonSchemaFiles(): Map<string, string> {
  const { isbDaemon, isbIst, istDaemon, loginVocabulary, linkControl, localApi, grantPayload, invite } = protocol;
  const control = Object.entries(linkControl).map(([type, body]) => [type, framed(eventFrame(type), body)] as const);
  const calls = Object.entries(localApi).flatMap(([call, { body, reply }]) => [
    [`${call}.body`, jsonSchema(body)] as const,
    [`${call}.reply`, jsonSchema(reply)] as const,
  ]);
  return new Map([
    ["login.json", file("Login, on every session", { ...framesOf(loginVocabulary), error: jsonSchema(errorFrame) })],
    ["isb-daemon.json", file("Daemon (client) at ISB (server)", framesOf(isbDaemon))],
    ["isb-ist.json", file("IST (client) at ISB (server)", framesOf(isbIst))],
    ["ist-daemon.json", file("Daemon (client) at IST (server)", framesOf(istDaemon))],
    ["link-control.json", file("Control messages between two daemons", Object.fromEntries(control))],
    [
      "local-api.json",
      file("The daemon's local API", { ...Object.fromEntries(calls), error: jsonSchema(protocol.apiError) }),
    ],
    ["grant.json", file("Payload of a grant", { grant: jsonSchema(grantPayload) })],
    ["invite.json", file("Content of an invite", { invite: jsonSchema(invite) })],
  ]);
}

import { z } from "zod";
import { type Code, IsthmusError, isCode } from "./codes.ts";

/**
 * The frame around every JSON message of a session (one WebSocket text frame each):
 *
 * - request  `{"t": TYPE, "id": ID, ...}`: the receiver answers exactly once.
 * - answer   `{"t": "ok", "re": ID, ...}` or `{"t": "error", "re": ID, "code": CODE, "message": TEXT}`, the latter with
 *   `"retryAfterMs": N` where the sender knows when asking again makes sense. The text is for people.
 * - event    `{"t": TYPE, ...}`: not answered.
 *
 * A request id is chosen by the sender and is new for each request (128 random bits), so that the same request sent
 * again after a reconnect is recognised: answers are kept 60 s.
 */
export const requestId = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,32}$/)
  .meta({ description: "request id: 1 to 32 of A-Z a-z 0-9 _ -" });

/** One request kind: the fields beside `t` and `id`, and the fields beside `t` and `re` of its answer. */
export interface RequestKind {
  request: z.ZodObject;
  reply: z.ZodObject;
}

/** What one side of a session may say. */
export interface Vocabulary {
  requests: Record<string, RequestKind>;
  events: Record<string, z.ZodObject>;
}

/** The two vocabularies of one session kind: what the client may say to the server, and back. */
export interface SessionInterface {
  toServer: Vocabulary;
  toClient: Vocabulary;
}

export type RequestName<V extends Vocabulary> = keyof V["requests"] & string;
export type EventName<V extends Vocabulary> = keyof V["events"] & string;
export type RequestBody<V extends Vocabulary, N extends RequestName<V>> = z.infer<V["requests"][N]["request"]>;
export type RequestInput<V extends Vocabulary, N extends RequestName<V>> = z.input<V["requests"][N]["request"]>;
export type ReplyBody<V extends Vocabulary, N extends RequestName<V>> = z.infer<V["requests"][N]["reply"]>;
export type ReplyInput<V extends Vocabulary, N extends RequestName<V>> = z.input<V["requests"][N]["reply"]>;
export type EventBody<V extends Vocabulary, N extends EventName<V>> = z.infer<V["events"][N]>;
export type EventInput<V extends Vocabulary, N extends EventName<V>> = z.input<V["events"][N]>;

/** A parsed text frame; `body` is validated, unknown fields are gone. */
export type Frame =
  | { kind: "request"; type: string; id: string; body: Record<string, unknown> }
  | { kind: "event"; type: string; body: Record<string, unknown> }
  | { kind: "ok"; re: string; body: Record<string, unknown> }
  | { kind: "error"; re: string; error: IsthmusError }
  /** A request of a type that this side does not know: to be answered `unknown-type`. */
  | { kind: "unknown-request"; type: string; id: string }
  /** An event of a type that this side does not know: to be counted and dropped. */
  | { kind: "unknown-event"; type: string }
  /** A request whose body is wrong: to be answered `bad-message`; the session goes on. */
  | { kind: "bad-request"; type: string; id: string; error: IsthmusError };

const outer = z.looseObject({ t: z.string().max(64), id: requestId.optional(), re: requestId.optional() });
const DAY_MS = 86_400_000;

const errorFrame = z.object({
  code: z.string().max(64),
  message: z.string().max(1000),
  retryAfterMs: z.int().nonnegative().optional(),
});

/**
 * Parses one text frame against what the other side may say. `ok` bodies are returned unparsed: only the sender of the
 * request knows their schema (see {@link parseReply}).
 * @throws IsthmusError `bad-message` when the frame is not one at all: the session ends.
 */
export function parseFrame(text: string, vocabulary: Vocabulary): Frame {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new IsthmusError("bad-message", "the frame is not JSON", { cause });
  }
  const head = outer.safeParse(json);
  if (!head.success) throw new IsthmusError("bad-message", `the frame is malformed: ${explain(head.error)}`);
  const { t: type, id, re, ...body } = head.data;

  if (type === "ok" || type === "error") {
    if (re === undefined) throw new IsthmusError("bad-message", `'${type}' without 're'`);
    if (type === "ok") return { kind: "ok", re, body };
    const error = errorFrame.safeParse(body);
    if (!error.success) throw new IsthmusError("bad-message", `the error is malformed: ${explain(error.error)}`);
    return { kind: "error", re, error: receivedError(error.data) };
  }
  if (id !== undefined) {
    const known = Object.hasOwn(vocabulary.requests, type) ? vocabulary.requests[type] : undefined;
    if (!known) return { kind: "unknown-request", type, id };
    const parsed = known.request.safeParse(body);
    if (!parsed.success) {
      return {
        kind: "bad-request",
        type,
        id,
        error: new IsthmusError("bad-message", `${type}: ${explain(parsed.error)}`),
      };
    }
    return { kind: "request", type, id, body: parsed.data };
  }
  const known = Object.hasOwn(vocabulary.events, type) ? vocabulary.events[type] : undefined;
  if (!known) return { kind: "unknown-event", type };
  const parsed = known.safeParse(body);
  if (!parsed.success) throw new IsthmusError("bad-message", `${type}: ${explain(parsed.error)}`);
  return { kind: "event", type, body: parsed.data };
}

/** @throws IsthmusError `bad-message` when the answer does not fit the request that was sent. */
export function parseReply(kind: RequestKind, type: string, body: Record<string, unknown>): Record<string, unknown> {
  const parsed = kind.reply.safeParse(body);
  if (!parsed.success) throw new IsthmusError("bad-message", `answer to ${type}: ${explain(parsed.error)}`);
  return parsed.data;
}

export function requestFrame(type: string, id: string, body: Record<string, unknown>): string {
  return JSON.stringify({ t: type, id, ...body });
}

export function eventFrame(type: string, body: Record<string, unknown>): string {
  return JSON.stringify({ t: type, ...body });
}

export function okFrame(re: string, body: Record<string, unknown>): string {
  return JSON.stringify({ t: "ok", re, ...body });
}

export function errorFrameOf(re: string, error: IsthmusError): string {
  const { code, message, retryAfterMs } = error;
  return JSON.stringify({
    t: "error",
    re,
    code,
    message: message.slice(0, 1000),
    // A frame that its receiver refuses would cost the session.
    retryAfterMs: retryAfterMs === undefined ? undefined : Math.ceil(Math.min(Math.max(retryAfterMs, 0), DAY_MS)),
  });
}

/** A code from a newer peer that this build does not know still reaches the user, inside the sentence. */
function receivedError({ code, message, retryAfterMs }: z.infer<typeof errorFrame>): IsthmusError {
  const options = retryAfterMs === undefined ? {} : { retryAfterMs };
  if (isCode(code)) return new IsthmusError(code, message, options);
  return new IsthmusError("internal", `${code}: ${message}`, options);
}

/** The first complaint of a schema, in words a person can act on: `services.0.name: a name is ...`. */
export function explain(error: z.ZodError): string {
  const issue = error.issues[0];
  if (!issue) return "invalid";
  const path = issue.path.map(String).join(".");
  return path === "" ? issue.message : `${path}: ${issue.message}`;
}

export const code = z
  .string()
  .max(64)
  .transform((text): Code => (isCode(text) ? text : "internal"))
  .meta({ description: "a word of the table of codes; one that is not in it is read as `internal`" });

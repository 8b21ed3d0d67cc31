import {
  isbDaemon,
  isbIst,
  istDaemon,
  loginVocabulary,
  type RequestKind,
  type SessionInterface,
  type Vocabulary,
} from "@isthmus/protocol";
import type { z } from "zod";

export const SESSION_INTERFACES: Record<string, SessionInterface> = {
  login: loginVocabulary,
  "isb-daemon": isbDaemon,
  "isb-ist": isbIst,
  "ist-daemon": istDaemon,
};

interface Speaker {
  /** `isb-daemon toServer` */
  title: string;
  vocabulary: Vocabulary;
}

export const SPEAKERS: Speaker[] = Object.entries(SESSION_INTERFACES).flatMap(([name, { toServer, toClient }]) => [
  { title: `${name} toServer`, vocabulary: toServer },
  { title: `${name} toClient`, vocabulary: toClient },
]);

export const REQUESTS: { title: string; type: string; vocabulary: Vocabulary; kind: RequestKind }[] = SPEAKERS.flatMap(
  ({ title, vocabulary }) =>
    Object.entries(vocabulary.requests).map(([type, kind]) => ({ title: `${title} ${type}`, type, vocabulary, kind })),
);

export const EVENTS: { title: string; type: string; vocabulary: Vocabulary; schema: z.ZodObject }[] = SPEAKERS.flatMap(
  ({ title, vocabulary }) =>
    Object.entries(vocabulary.events).map(([type, schema]) => ({
      title: `${title} ${type}`,
      type,
      vocabulary,
      schema,
    })),
);

/** What goes over the wire of a value. */
export function overTheWire<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}

/** The same value as a newer peer would send it: a field that nobody knows in each of its objects. */
export function withUnknownFields(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withUnknownFields);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value).map(([key, field]) => [key, withUnknownFields(field)]);
  return { ...Object.fromEntries(fields), "from the future": { nested: [1, null] } };
}

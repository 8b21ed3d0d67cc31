import { z } from "zod";
import * as protocol from "../src/index.ts";

type JsonSchema = z.core.JSONSchema.JSONSchema;

/** The schemas that this package exports, by name. */
export const EXPORTED = new Map(
  Object.entries(protocol).flatMap(([name, value]) => (value instanceof z.ZodType ? [[name, value] as const] : [])),
);

/** The first name of each. */
const NAMES = new Map([...EXPORTED].reverse().map(([name, schema]) => [schema as z.core.$ZodType, name]));

/** The exported name of a schema, also where it carries a description of its own. */
export function nameOf(schema: z.core.$ZodType): string | undefined {
  const { parent } = schema._zod as { parent?: z.core.$ZodType };
  return NAMES.get(schema) ?? (parent && nameOf(parent));
}

/** Sees through optional, default and the like. */
export function bare(schema: z.ZodType): z.ZodType {
  const isWrapper =
    schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault;
  return isWrapper && nameOf(schema) === undefined ? bare(schema.unwrap() as z.ZodType) : schema;
}

/** What a field is for, unless its type says all of it. */
export function descriptionOf(schema: z.ZodType): string {
  if (NAMES.has(schema)) return "";
  const { description } = schema;
  if (description !== undefined) return description === bytesText(schema) ? "" : description;
  const inner = bare(schema);
  return inner === schema ? "" : descriptionOf(inner);
}

/** A type in words, with links to named ones. */
export function typeText(schema: z.ZodType): string {
  const inner = bare(schema);
  const name = nameOf(inner);
  return name === undefined ? formText(inner) : `[${name}](#type-${name.toLowerCase()})`;
}

/** What a type is made of, in words that do not use its own name. */
export function formText(schema: z.ZodType): string {
  if (schema instanceof z.ZodArray) {
    return `list${countText(jsonSchema(schema))} of ${typeText(schema.element as z.ZodType)}`;
  }
  if (schema instanceof z.ZodTuple) {
    return `list of exactly ${schema.def.items.map((item) => typeText(item as z.ZodType)).join(" and ")}`;
  }
  if (schema instanceof z.ZodUnion) return schema.options.map((option) => typeText(option as z.ZodType)).join(" or ");
  if (schema instanceof z.ZodRecord) {
    return `object of ${typeText(schema.keyType as z.ZodType)} to ${typeText(schema.valueType as z.ZodType)}`;
  }
  if (schema instanceof z.ZodPipe) return formText(schema.def.in as z.ZodType);
  return bytesText(schema) ?? leafText(jsonSchema(schema));
}

export function jsonSchema(schema: z.ZodType): JsonSchema {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: "input" }) as JsonSchema;
  return rest;
}

/** The value that a missing field stands for, as JSON, or nothing where there is none. */
export function defaultText(schema: z.ZodType): string | undefined {
  const { default: value } = jsonSchema(schema);
  return value === undefined ? undefined : JSON.stringify(value);
}

const BASE64URL = "^[A-Za-z0-9_-]*$";

/** Raw bytes travel as text: how many they are. */
function bytesText(schema: z.ZodType): string | undefined {
  const { pattern, minLength = 0, maxLength = 0 } = jsonSchema(schema);
  if (pattern !== BASE64URL) return undefined;
  const most = Math.floor((maxLength * 3) / 4);
  return `${minLength === maxLength ? "" : "up to "}${most} bytes, base64url without padding`;
}

function countText({ minItems, maxItems }: JsonSchema): string {
  if (maxItems === undefined) return minItems === undefined ? "" : ` (at least ${minItems})`;
  return minItems === undefined ? ` (at most ${maxItems})` : ` (${minItems} to ${maxItems})`;
}

function leafText(json: JsonSchema): string {
  if (json.const !== undefined) return `\`${JSON.stringify(json.const)}\``;
  if (json.enum) return json.enum.map((value) => `\`${JSON.stringify(value)}\``).join(" or ");
  switch (json.type) {
    case "integer":
    case "number":
      return `${json.type}${rangeText(json)}`;
    case "boolean":
    case "object":
      return json.type;
    case "string":
      return json.maxLength === undefined ? "text" : `text, at most ${json.maxLength} characters`;
    default:
      throw new Error(`a type that has no words yet: ${JSON.stringify(json)}`);
  }
}

function rangeText({ minimum, maximum }: JsonSchema): string {
  const from = minimum === undefined || minimum <= Number.MIN_SAFE_INTEGER ? undefined : minimum;
  const to = maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? undefined : maximum;
  if (from === undefined) return to === undefined ? "" : ` up to ${to}`;
  return to === undefined ? `, at least ${from}` : ` from ${from} to ${to}`;
}

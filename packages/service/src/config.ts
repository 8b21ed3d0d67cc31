import { readFileSync } from "node:fs";
import { parse as parseToml } from "smol-toml";
import { z } from "zod";

/** A configuration that cannot be used; the message names the key and where it came from. */
export class ConfigError extends Error {
  override name = "ConfigError";
}

export interface ConfigSources {
  /** A TOML file; missing is an error only when it was named explicitly. */
  file?: { path: string; required: boolean };
  /** Environment variables `PREFIX_KEY`, with `__` between the parts of a nested key. */
  env?: { prefix: string; values: NodeJS.ProcessEnv };
  /** Command line flags, as a partial object of the schema's shape. */
  flags?: Record<string, unknown>;
}

/**
 * One typed, frozen object out of file < environment < flags. Unknown keys are refused, in the file and in the
 * environment alike. A text in the environment is read as JSON where the schema wants something else than text.
 * @throws ConfigError
 */
export function loadConfig<S extends z.ZodObject>(schema: S, sources: ConfigSources): z.infer<S> {
  const layers: Layer[] = [{ source: "flags", values: sources.flags ?? {} }];
  if (sources.env) layers.push({ source: "environment", values: readEnvironment(schema, sources.env) });
  if (sources.file) layers.push({ source: sources.file.path, values: readFile(sources.file) });
  for (const { source, values } of layers) {
    const key = unknownKey(schema, values);
    if (key !== undefined) throw new ConfigError(`${source}: unknown key '${key}'`);
  }
  const parsed = schema.safeParse(layers.reduceRight((below, { values }) => merge(below, values), {}));
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    // A complaint about several settings together has no path, one about a missing setting no source.
    const source = path.length === 0 ? undefined : layers.find(({ values }) => isSet(values, path))?.source;
    const key = path.length === 0 ? "configuration" : path.join(".");
    throw new ConfigError(`${source === undefined ? "" : `${source}: `}${key}: ${message}`);
  }
  return Object.freeze(parsed.data) as z.infer<S>;
}

/** What one source sets, and what to call it in a complaint; the first layer has the last word. */
interface Layer {
  source: string;
  values: Record<string, unknown>;
}

function isSet(values: unknown, path: PropertyKey[]): boolean {
  const [head, ...rest] = path;
  // Lists are never merged: whoever set the list set what is in it.
  if (head === undefined || Array.isArray(values)) return values !== undefined;
  return isPlainObject(values) && isSet(values[head as string], rest);
}

function readFile({ path, required }: { path: string; required: boolean }): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (!required && (error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new ConfigError(`${path}: ${(error as Error).message}`);
  }
  try {
    return parseToml(text) as Record<string, unknown>;
  } catch (error) {
    throw new ConfigError(`${path}: ${(error as Error).message}`);
  }
}

/** Environment variables that start with the prefix and name no key would be typing errors that nobody notices. */
function readEnvironment(
  schema: z.ZodObject,
  env: { prefix: string; values: NodeJS.ProcessEnv },
): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [variable, text] of Object.entries(env.values)) {
    if (!variable.startsWith(`${env.prefix}_`) || text === undefined) continue;
    const keyOf = (end?: number): string[] =>
      variable
        .slice(env.prefix.length + 1, end)
        .toLowerCase()
        .split("__");
    // A setting whose own name ends in `_file` is meant before the file that holds a secret.
    const fromFile = variable.endsWith("_FILE") && lookUp(schema, keyOf()) === undefined;
    const path = keyOf(fromFile ? -"_FILE".length : undefined);
    const wanted = lookUp(schema, path);
    if (!wanted) throw new ConfigError(`environment variable ${variable} names no setting`);
    let value: string;
    try {
      value = fromFile ? readFileSync(text, "utf8").trimEnd() : text;
    } catch (error) {
      throw new ConfigError(`${variable}: ${(error as Error).message}`);
    }
    const isText = bare(wanted) instanceof z.ZodString || wanted.safeParse(value).success;
    put(result, path, isText ? value : jsonOrText(value));
  }
  return result;
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Sees through optional, default and the like to the schema itself. */
function bare(schema: z.ZodType): z.ZodType {
  const inner = (schema as { def?: { innerType?: z.ZodType } }).def?.innerType;
  return inner ? bare(inner) : schema;
}

function lookUp(schema: z.ZodType, path: string[]): z.ZodType | undefined {
  const [head, ...rest] = path;
  const object = bare(schema);
  if (head === undefined) return schema;
  if (!(object instanceof z.ZodObject) || !Object.hasOwn(object.shape, head)) return undefined;
  return lookUp(object.shape[head] as z.ZodType, rest);
}

function put(target: Record<string, unknown>, path: string[], value: unknown): void {
  const [head, ...rest] = path as [string, ...string[]];
  if (rest.length === 0) {
    target[head] = value;
    return;
  }
  target[head] ??= {};
  put(target[head] as Record<string, unknown>, rest, value);
}

function merge(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const result = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue;
    const below = result[key];
    result[key] = isPlainObject(value) && isPlainObject(below) ? merge(below, value) : value;
  }
  return result;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The first key, with the keys above it, that the schema does not know. */
function unknownKey(schema: z.ZodType, value: unknown): string | undefined {
  const inner = bare(schema);
  let entries: [string, z.ZodType | undefined, unknown][] = [];
  if (inner instanceof z.ZodObject && isPlainObject(value)) {
    const { shape } = inner;
    entries = Object.entries(value).map(([key, below]) => [
      key,
      Object.hasOwn(shape, key) ? (shape[key] as z.ZodType) : undefined,
      below,
    ]);
  } else if (inner instanceof z.ZodArray && Array.isArray(value)) {
    entries = value.map((below, index) => [String(index), inner.element as z.ZodType, below]);
  } else if (inner instanceof z.ZodRecord && isPlainObject(value)) {
    entries = Object.entries(value).map(([key, below]) => [key, inner.valueType as z.ZodType, below]);
  }
  for (const [key, known, below] of entries) {
    if (below === undefined) continue;
    if (!known) return key;
    const deeper = unknownKey(known, below);
    if (deeper !== undefined) return `${key}.${deeper}`;
  }
  return undefined;
}

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
  const file = sources.file ? readFile(sources.file) : {};
  const strict = deepStrict(schema) as z.ZodObject;
  // The file is checked alone first, so that a complaint names it and not the merged whole.
  const fileKeys = unknownKeys(strict, file);
  if (fileKeys) throw new ConfigError(`${sources.file?.path}: ${fileKeys}`);
  const env = sources.env ? readEnvironment(schema, sources.env) : {};
  const merged = merge(merge(file, env), sources.flags ?? {});
  const parsed = strict.safeParse(merged);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const key = issue.path.join(".");
    throw new ConfigError(`${key === "" ? "configuration" : key}: ${issue.message}`);
  }
  return Object.freeze(parsed.data) as z.infer<S>;
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
    const fromFile = variable.endsWith("_FILE");
    const bare = variable.slice(env.prefix.length + 1, fromFile ? -"_FILE".length : undefined);
    const path = bare.toLowerCase().split("__");
    const wanted = lookUp(schema, path);
    if (!wanted) throw new ConfigError(`environment variable ${variable} names no setting`);
    let value: string;
    try {
      value = fromFile ? readFileSync(text, "utf8").trimEnd() : text;
    } catch (error) {
      throw new ConfigError(`${variable}: ${(error as Error).message}`);
    }
    put(result, path, wanted.safeParse(value).success ? value : jsonOrText(value));
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

/** The same schema with every object strict. Only the wrappers that configurations use are followed. */
function deepStrict(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodObject) {
    const shape = Object.fromEntries(
      Object.entries(schema.shape).map(([key, value]) => [key, deepStrict(value as z.ZodType)]),
    );
    return z.strictObject(shape);
  }
  if (schema instanceof z.ZodArray) return z.array(deepStrict(schema.element as z.ZodType));
  if (schema instanceof z.ZodOptional) return deepStrict(schema.unwrap() as z.ZodType).optional();
  if (schema instanceof z.ZodPrefault) {
    return deepStrict(schema.def.innerType as z.ZodType).prefault(schema.def.defaultValue as never);
  }
  return schema;
}

function unknownKeys(strict: z.ZodObject, value: Record<string, unknown>): string | undefined {
  const issue = strict.safeParse(value).error?.issues.find(({ code }) => code === "unrecognized_keys");
  if (issue?.code !== "unrecognized_keys") return undefined;
  return `unknown key '${[...issue.path, issue.keys[0]].join(".")}'`;
}

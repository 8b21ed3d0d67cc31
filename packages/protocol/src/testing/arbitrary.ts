import fc from "fast-check";
import type { z } from "zod";
import { CODES } from "../codes.ts";

/** The parts of a schema's definition that matter here; zod 4 documents them for libraries. */
interface Def {
  type: string;
  checks?: { _zod: { def: Check } }[];
  format?: string;
  shape?: Record<string, z.core.$ZodType>;
  element?: z.core.$ZodType;
  items?: z.core.$ZodType[];
  options?: z.core.$ZodType[];
  entries?: Record<string, string>;
  values?: unknown[];
  innerType?: z.core.$ZodType;
  keyType?: z.core.$ZodType;
  valueType?: z.core.$ZodType;
}

interface Check {
  check: string;
  pattern?: RegExp;
  minimum?: number;
  maximum?: number;
  length?: number;
  value?: number;
  inclusive?: boolean;
}

/** Lists are kept this short, whatever the schema allows: what a test wants is many shapes, not many bytes. */
const MOST_ELEMENTS = 4;
const MOST_CHARACTERS = 64;

/**
 * Values that a schema accepts, as a peer would send them (what has a default may be missing). Every schema of this
 * package is understood; an unknown kind of schema is an error, so that a new one is noticed.
 */
export function arbitraryOf<S extends z.ZodType>(schema: S): fc.Arbitrary<z.input<S>> {
  return anyOf(schema) as fc.Arbitrary<z.input<S>>;
}

function anyOf(schema: z.core.$ZodType): fc.Arbitrary<unknown> {
  const def = schema._zod.def as unknown as Def;
  const made = generate(def, schema);
  const isRefined = def.checks?.some(({ _zod }) => _zod.def.check === "custom");
  return isRefined ? made.filter((value) => accepts(schema, value)) : made;
}

function accepts(schema: z.core.$ZodType, value: unknown): boolean {
  return (schema as z.ZodType).safeParse(value).success;
}

function generate(def: Def, schema: z.core.$ZodType): fc.Arbitrary<unknown> {
  switch (def.type) {
    case "object":
      return anyObject(def.shape!);
    case "array": {
      const { minLength, maxLength } = lengths(def);
      return fc.array(anyOf(def.element!), { minLength, maxLength: Math.min(maxLength, minLength + MOST_ELEMENTS) });
    }
    case "tuple":
      return fc.tuple(...def.items!.map(anyOf));
    case "record":
      return fc.dictionary(anyOf(def.keyType!) as fc.Arbitrary<string>, anyOf(def.valueType!), {
        maxKeys: MOST_ELEMENTS,
      });
    case "union":
      return fc.oneof(...def.options!.map(anyOf));
    case "enum":
      return fc.constantFrom(...Object.values(def.entries!));
    case "literal":
      return fc.constantFrom(...def.values!);
    case "optional":
    case "default":
    case "prefault":
      return anyOf(def.innerType!);
    case "pipe":
      // The one transformation of this package turns codes that this build does not know into `internal`.
      return fc.constantFrom(...Object.keys(CODES)).filter((code) => accepts(schema, code));
    case "boolean":
      return fc.boolean();
    case "number":
      return anyNumber(def);
    case "string":
      return anyString(def, schema);
    default:
      throw new Error(`no values are known for a schema of type ${def.type}`);
  }
}

function anyObject(shape: Record<string, z.core.$ZodType>): fc.Arbitrary<unknown> {
  const fields = Object.fromEntries(Object.entries(shape).map(([key, field]) => [key, anyOf(field)]));
  const requiredKeys = Object.keys(shape).filter((key) => shape[key]!._zod.optin === undefined);
  return fc.record(fields, { requiredKeys, noNullPrototype: true });
}

function lengths(def: Def): { minLength: number; maxLength: number } {
  let minLength = 0;
  let maxLength = Number.MAX_SAFE_INTEGER;
  for (const check of checksOf(def)) {
    minLength = Math.max(minLength, check.length ?? check.minimum ?? 0);
    maxLength = Math.min(maxLength, check.length ?? check.maximum ?? maxLength);
  }
  return { minLength, maxLength };
}

function checksOf(def: Def): Check[] {
  return def.checks?.map(({ _zod }) => _zod.def) ?? [];
}

function anyNumber(def: Def): fc.Arbitrary<number> {
  const checks = checksOf(def);
  const min = Math.max(
    Number.MIN_SAFE_INTEGER,
    ...checks.flatMap((c) => (c.check === "greater_than" ? [c.value!] : [])),
  );
  const max = Math.min(Number.MAX_SAFE_INTEGER, ...checks.flatMap((c) => (c.check === "less_than" ? [c.value!] : [])));
  // JSON knows no negative zero.
  return def.format === "safeint" ? fc.integer({ min, max }) : fc.double({ min, max, noNaN: true }).map((n) => n + 0);
}

const LABEL = fc.stringMatching(/^[a-z0-9]{1,8}$/);

const HOST_PORT = fc
  .tuple(
    fc.oneof(
      fc.ipV4(),
      fc.ipV6().map((ip) => `[${ip}]`),
      fc.tuple(LABEL, fc.constantFrom("example", "test")).map((labels) => labels.join(".")),
    ),
    fc.integer({ min: 1, max: 65_535 }),
  )
  .map(([host, port]) => `${host}:${port}`);

/** Texts of the forms that this package's refinements ask for. */
function textForms(def: Def): fc.Arbitrary<string>[] {
  const { minLength, maxLength } = lengths(def);
  const longest = Math.min(maxLength, minLength + MOST_CHARACTERS);
  const patterns = checksOf(def).flatMap(({ pattern }) => (pattern ? [pattern] : []));
  return [
    HOST_PORT,
    fc.oneof(fc.ipV4(), fc.ipV6()),
    fc.tuple(fc.constantFrom("ws", "wss"), HOST_PORT).map(([scheme, address]) => `${scheme}://${address}`),
    fc
      .uint8Array({ minLength: Math.floor((minLength * 3) / 4), maxLength: Math.floor((longest * 3) / 4) })
      .map((bytes) => Buffer.from(bytes).toString("base64url")),
    ...patterns.map((pattern) => fc.stringMatching(pattern)),
    fc.string({ unit: "grapheme", minLength, maxLength: longest }),
  ];
}

const PROBE = { numRuns: 20, seed: 1 };

/** A refinement is a function and does not say what it wants: the forms of which it accepts some samples are used. */
function anyString(def: Def, schema: z.core.$ZodType): fc.Arbitrary<string> {
  const fitting = textForms(def).filter((form) => fc.sample(form, PROBE).some((text) => accepts(schema, text)));
  if (fitting.length === 0) throw new Error("no form of text is known that fits the schema");
  return fc.oneof(...fitting).filter((text) => accepts(schema, text));
}

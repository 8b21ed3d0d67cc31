import { readFileSync } from "node:fs";
import { parse } from "yaml";

/** A netlink specification, as far as this repository's own use the kernel's format for them. */
export interface Spec {
  name: string;
  doc: string;
  definitions: Definition[];
  "attribute-sets": AttributeSet[];
  operations: { list: Operation[] };
  "mcast-groups": { list: { name: string }[] };
}

export type Definition =
  | { type: "const"; name: string; value: number; doc?: string }
  | { type: "enum"; name: string; doc?: string; entries: { name: string; doc?: string }[] };

export interface AttributeSet {
  name: string;
  doc?: string;
  attributes: Attribute[];
}

export interface Attribute {
  name: string;
  type: "u8" | "u16" | "u32" | "u64" | "string" | "binary" | "flag" | "nest";
  doc?: string;
  enum?: string;
  "multi-attr"?: boolean;
  "nested-attributes"?: string;
  checks?: { min?: number | string; max?: number | string; "min-len"?: number; "max-len"?: number };
}

export interface Operation {
  name: string;
  doc: string;
  "attribute-set": string;
  flags?: string[];
  do?: Exchange;
  dump?: Exchange;
  event?: { attributes: string[] };
}

interface Exchange {
  request?: { attributes: string[] };
  reply?: { attributes: string[] };
}

export const FAMILY_VERSION = 1;

export function readSpec(path: string): Spec {
  return parse(readFileSync(path, "utf8")) as Spec;
}

export function attributeSet(spec: Spec, name: string): AttributeSet {
  const set = spec["attribute-sets"].find((each) => each.name === name);
  if (!set) throw new Error(`no attribute set ${name}`);
  return set;
}

export function enumOf(spec: Spec, name: string): Extract<Definition, { type: "enum" }> {
  const found = spec.definitions.find((each) => each.name === name);
  if (found?.type !== "enum") throw new Error(`no enum ${name}`);
  return found;
}

/** The value of a check, which may name a constant. */
export function checkValue(spec: Spec, value: number | string): number {
  if (typeof value === "number") return value;
  const found = spec.definitions.find((each) => each.name === value);
  if (found?.type !== "const") throw new Error(`no constant ${value}`);
  return found.value;
}

/** `remote-port0` in the way of C constants. */
export function upper(...parts: string[]): string {
  return parts.join("_").replaceAll("-", "_").toUpperCase();
}

/** `remote-port0` in the way of C variables. */
export function lower(...parts: string[]): string {
  return parts.join("_").replaceAll("-", "_").toLowerCase();
}

export function camel(name: string): string {
  return name.replace(/[-_](\w)/g, (_, letter: string) => letter.toUpperCase());
}

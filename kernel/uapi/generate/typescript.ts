import { type Attribute, camel, checkValue, FAMILY_VERSION, type Spec } from "./spec.ts";

const NUMBERS = ["u8", "u16", "u32"];

/**
 * The module for user space: constants, a description of every attribute set that a codec works from, and the types of
 * what it makes of messages.
 */
export function typescript(spec: Spec, source: string): string {
  const family = pascal(spec.name);
  return [
    `// Generated from ${source}; do not edit.`,
    "",
    ...docComment(spec.doc),
    `export const ${spec.name.toUpperCase()}_FAMILY = {`,
    `  name: "${spec.name}",`,
    `  version: ${FAMILY_VERSION},`,
    `  groups: [${spec["mcast-groups"].list.map(({ name }) => `"${name}"`).join(", ")}],`,
    "  operations: {",
    ...spec.operations.list.map(
      ({ name, "attribute-set": set }, index) => `    ${key(name)}: { command: ${index + 1}, attributes: "${set}" },`,
    ),
    "  },",
    "  enums: {",
    ...enums(spec).map(
      ({ name, entries }) => `    ${key(name)}: [${entries.map((each) => `"${each.name}"`).join(", ")}],`,
    ),
    "  },",
    "  attributes: {",
    ...spec["attribute-sets"].flatMap(({ name, attributes }) => [
      `    ${key(name)}: {`,
      ...attributes.map(
        (attribute, index) => `      ${camel(attribute.name)}: ${description(spec, attribute, index + 1)},`,
      ),
      "    },",
    ]),
    "  },",
    "} as const;",
    "",
    ...spec.definitions.flatMap((definition) =>
      definition.type === "const"
        ? [
            ...docComment(definition.doc),
            `export const ${spec.name.toUpperCase()}_${definition.name.replaceAll("-", "_").toUpperCase()} = ${definition.value};`,
            "",
          ]
        : [
            ...docComment(enumDoc(definition)),
            `export type ${family}${pascal(definition.name)} = ${definition.entries.map(({ name }) => `"${name}"`).join(" | ")};`,
            "",
          ],
    ),
    ...spec["attribute-sets"].flatMap(({ name, doc, attributes }) => [
      ...docComment(doc),
      `export interface ${family}${pascal(name)} {`,
      ...attributes.flatMap((attribute) => [
        ...docComment(attribute.doc, "  "),
        `  ${camel(attribute.name)}?: ${typeOf(family, attribute)} | undefined;`,
      ]),
      "}",
      "",
    ]),
  ].join("\n");
}

function enums(spec: Spec) {
  return spec.definitions.filter((definition) => definition.type === "enum");
}

function enumDoc({ doc, entries }: { doc?: string; entries: { name: string; doc?: string }[] }): string {
  const rows = entries.map((entry) => (entry.doc === undefined ? `- ${entry.name}` : `- ${entry.name}: ${entry.doc}`));
  return [doc?.trim() ?? "", ...rows].join("\n");
}

function description(spec: Spec, attribute: Attribute, type: number): string {
  const parts = [`type: ${type}`, `kind: "${attribute.type}"`];
  if (attribute.enum) parts.push(`values: "${attribute.enum}"`);
  if (attribute["nested-attributes"]) parts.push(`of: "${attribute["nested-attributes"]}"`);
  if (attribute["multi-attr"]) parts.push("multi: true");
  const { min, max, "min-len": minBytes, "max-len": maxBytes } = attribute.checks ?? {};
  for (const [check, value] of Object.entries({ min, max, minBytes, maxBytes })) {
    if (value !== undefined) parts.push(`${check}: ${checkValue(spec, value)}`);
  }
  return `{ ${parts.join(", ")} }`;
}

function typeOf(family: string, attribute: Attribute): string {
  const single = singleType(family, attribute);
  return attribute["multi-attr"] ? `${single}[]` : single;
}

function singleType(family: string, attribute: Attribute): string {
  if (attribute.enum) return `${family}${pascal(attribute.enum)}`;
  if (attribute["nested-attributes"]) return `${family}${pascal(attribute["nested-attributes"])}`;
  if (NUMBERS.includes(attribute.type)) return "number";
  if (attribute.type === "u64") return "bigint";
  if (attribute.type === "string") return "string";
  return attribute.type === "flag" ? "boolean" : "Uint8Array";
}

function pascal(name: string): string {
  const words = camel(name);
  return words[0]!.toUpperCase() + words.slice(1);
}

function key(name: string): string {
  return /^\w+$/.test(name) ? name : `"${name}"`;
}

function docComment(doc: string | undefined, indent = ""): string[] {
  if (doc === undefined) return [];
  const lines = doc.trim().split("\n");
  if (lines.length === 1) return [`${indent}/** ${lines[0]} */`];
  return [`${indent}/**`, ...lines.map((line) => `${indent} * ${line}`.trimEnd()), `${indent} */`];
}

import { z } from "zod";
import { bare, defaultText, descriptionOf, formText, jsonSchema, nameOf, typeText } from "./types.ts";

/** A Markdown table with its columns lined up, as the formatter wants it. */
export function table(head: string[], rows: string[][]): string {
  const lines = [head, ...rows].map((cells) => cells.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = head.map((_, column) => Math.max(3, ...lines.map((cells) => cells[column]!.length)));
  const text = (cells: string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const rule = text(widths.map((width) => "-".repeat(width)));
  return lines.map(text).toSpliced(1, 0, rule).join("\n");
}

/** The fields of an object as a table; those of objects without a name of their own follow by their path. */
export function fieldTable(schema: z.ZodObject, comments: Map<string, string>, path: string): string {
  const rows = rowsOf(schema, comments, path, "");
  if (rows.length === 0) return "No fields.";
  return table(["field", "type", "if missing", "meaning"], rows);
}

function rowsOf(schema: z.ZodObject, comments: Map<string, string>, path: string, prefix: string): string[][] {
  return Object.entries(schema.shape).flatMap(([key, value]) => {
    const field = value as z.ZodType;
    const at = `${path}.${key}`;
    const meaning = comments.get(at)?.replaceAll("\n", " ") ?? descriptionOf(field);
    const { inner, suffix } = objectIn(field);
    const below = inner && nameOf(inner) === undefined ? rowsOf(inner, comments, at, `${prefix}${key}${suffix}.`) : [];
    return [[`\`${prefix}${key}\``, typeText(field), missingText(field), meaning], ...below];
  });
}

function missingText(field: z.ZodType): string {
  const value = defaultText(field);
  if (value !== undefined) return `\`${value}\``;
  return field._zod.optin === "optional" ? "allowed" : "refused";
}

/** The object whose fields a field has, by itself or in a list, and how its path is written. */
function objectIn(field: z.ZodType): { inner?: z.ZodObject; suffix: string } {
  const schema = bare(field);
  if (schema instanceof z.ZodObject) return { inner: schema, suffix: "" };
  if (nameOf(schema) !== undefined) return { suffix: "" };
  // Where a list has two elements of fixed place, they are alike.
  const element =
    schema instanceof z.ZodArray ? schema.element : schema instanceof z.ZodTuple ? schema.def.items[0] : undefined;
  if (!element) return { suffix: "" };
  const found = objectIn(element as z.ZodType);
  return { ...found, suffix: `[]${found.suffix}` };
}

/** How a named type is described: its fields, its options, or its form. @param lead what the sources say of it */
export function typeSection(name: string, schema: z.ZodType, lead: string, comments: Map<string, string>): string {
  const parts = [`### Type \`${name}\``, lead];
  if (schema instanceof z.ZodObject) {
    parts.push(fieldTable(schema, comments, name));
  } else if (schema instanceof z.ZodUnion && schema.options.every((option) => option instanceof z.ZodObject)) {
    const options = (schema.options as z.ZodObject[]).map((option) => fieldTable(option, comments, name));
    parts.push(options.join("\n\nor\n\n"));
  } else {
    parts.push(formSentence(schema));
  }
  return parts.filter((part) => part !== "").join("\n\n");
}

function formSentence(schema: z.ZodType): string {
  const form = formText(schema);
  const { description = form } = schema;
  const text = description === form ? form : `${form}: ${description}`;
  const { pattern } = jsonSchema(schema);
  return `${text[0]!.toUpperCase()}${text.slice(1)}.${pattern === undefined ? "" : ` Pattern: \`${pattern}\`.`}`;
}

import { readFileSync } from "node:fs";
import { join } from "node:path";

const SOURCES = join(import.meta.dirname, "..", "src");

/** The text of a source file of this package. */
export function sourceOf(file: string): string {
  return readFileSync(join(SOURCES, file), "utf8");
}

/**
 * The doc comments of a source file by what they stand above: `LIMITS.openWindow`,
 * `isbDaemon.toServer.requests.declare`. Keys are found by the formatter's indentation, which is exact.
 */
export function commentsOf(file: string): Map<string, string> {
  const comments = new Map<string, string>();
  const above: { indent: number; key: string }[] = [];
  let comment: string[] | undefined;
  let isInside = false;
  for (const line of sourceOf(file).split("\n")) {
    const start = /^\s*\/\*\* ?(.*?)(\*\/)?$/.exec(line);
    if (start) {
      comment = start[1] === "" ? [] : [start[1]!.trimEnd()];
      isInside = start[2] === undefined;
      continue;
    }
    if (isInside) {
      const end = /^\s*\*\/$/.test(line);
      if (!end) comment?.push(line.replace(/^\s*\* ?/, ""));
      isInside = !end;
      continue;
    }
    const key = /^(\s*)(?:(?:export )?(?:const|function|class|interface) )?"?([\w-]+)"?\??[:( =]/.exec(line);
    if (key) {
      const indent = key[1]!.length;
      while (above.length > 0 && above.at(-1)!.indent >= indent) above.pop();
      above.push({ indent, key: key[2]! });
      if (comment) comments.set(above.map((entry) => entry.key).join("."), markdown(comment));
    }
    comment = undefined;
  }
  return comments;
}

/** Doc comment to Markdown: layouts become blocks of code, links lose their braces, tags for tools are left out. */
function markdown(lines: string[]): string {
  const result: string[] = [];
  let isLayout = false;
  for (const line of lines) {
    if (line.startsWith("@")) break;
    const isIndented = line.startsWith("    ");
    if (isIndented !== isLayout) {
      result.push("```");
      isLayout = isIndented;
    }
    const isFirstItem = line.startsWith("- ") && !/^(- | {2}|$)/.test(result.at(-1) ?? "");
    if (isFirstItem) result.push("");
    const text = isLayout ? line.slice(4) : line.replaceAll(/(?<=\S) {2,}/g, " ");
    result.push(text.replaceAll(/\{@link ([^}]+)\}/g, "`$1`"));
  }
  if (isLayout) result.push("```");
  return result.join("\n").trim();
}

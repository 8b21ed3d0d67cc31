import { readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";

/** The repository's root. */
export const ROOT = resolve(import.meta.dirname, "../../..");

/** Not ours, or made by a build. */
const LEFT_OUT = new Set(["node_modules", "dist", "build", ".git", ".turbo", "coverage"]);

/** Parts that `docs/reference/protocol.md` is put together from, and no pages. */
const PARTS = join("packages", "protocol", "reference", "text");

export interface Page {
  /** From the root. */
  path: string;
  /** Without blocks of code, in which nothing is a link or a heading. */
  text: string;
}

/** Every Markdown page of the repository. */
export function markdownPages(folder = ROOT): Page[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    const fromRoot = relative(ROOT, path);
    if (entry.isDirectory()) return LEFT_OUT.has(entry.name) || fromRoot === PARTS ? [] : markdownPages(path);
    if (!entry.name.endsWith(".md")) return [];
    return [{ path: fromRoot, text: withoutCode(readFileSync(path, "utf8")) }];
  });
}

function withoutCode(text: string): string {
  return text
    .replaceAll(/^(```+).*\n[\s\S]*?^\1$/gm, "")
    .replaceAll(/`[^`\n]+`/g, (code) => code.replaceAll(/[[\]]/g, ""));
}

/** Targets of a page's links and pictures, as they are written. */
export function linksOf({ text }: Page): string[] {
  return [...text.matchAll(/\]\(([^()\s]+)\)|(?:src|href|srcset)="([^"]+)"/g)].map(([, link, html]) => (link ?? html)!);
}

/** What can follow `#`, as hosts of repositories make it of headings. */
export function anchorsOf({ text }: Page): Set<string> {
  const seen = new Map<string, number>();
  const anchors = [...text.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading]) => {
    const anchor = heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-");
    const count = seen.get(anchor) ?? 0;
    seen.set(anchor, count + 1);
    return count === 0 ? anchor : `${anchor}-${count}`;
  });
  return new Set(anchors);
}

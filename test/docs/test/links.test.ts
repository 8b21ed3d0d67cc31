import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { expect, it } from "vitest";
import { anchorsOf, linksOf, markdownPages, type Page, ROOT } from "../src/markdown-files.ts";

const pages = new Map(markdownPages().map((page) => [page.path, page]));

/** The file that a link of a page means, from the root, and the place in it; nothing for the web. */
function targetOf(page: Page, link: string): { path: string; anchor: string | undefined } | undefined {
  if (/^[a-z]+:/.test(link)) return undefined;
  const [file = "", anchor] = link.split("#");
  const path = file === "" ? page.path : relative(ROOT, join(ROOT, page.path, "..", file));
  return { path, anchor };
}

it("finds the pages at all", () => {
  expect([...pages.keys()]).toEqual(expect.arrayContaining(["README.md", "docs/reference/protocol.md"]));
});

it.each([...pages.keys()])("%s links to what is there", (path) => {
  const page = pages.get(path)!;
  const broken = linksOf(page).filter((link) => {
    const target = targetOf(page, link);
    if (!target) return false;
    if (!existsSync(join(ROOT, target.path))) return true;
    const linked = pages.get(target.path);
    return target.anchor !== undefined && linked !== undefined && !anchorsOf(linked).has(target.anchor);
  });
  expect(broken).toEqual([]);
});

it("leads from README.md to every page of docs/", () => {
  const found = new Set(["README.md"]);
  for (const path of found) {
    const page = pages.get(path);
    if (!page) continue;
    for (const link of linksOf(page)) {
      const target = targetOf(page, link)?.path;
      if (target?.endsWith(".md")) found.add(target);
    }
  }
  expect([...pages.keys()].filter((path) => path.startsWith("docs/") && !found.has(path))).toEqual([]);
});

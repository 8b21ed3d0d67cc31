import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { REFERENCE_FOLDER, referencePages } from "../src/generate.ts";

const pages = await referencePages();

it.each([...pages.keys()])("docs/reference/%s is what `npm run reference` makes of the programs", (name) => {
  expect(readFileSync(join(REFERENCE_FOLDER, name), "utf8")).toBe(pages.get(name));
});

describe("the pages", () => {
  it("know every program", () => {
    const programs = ["isthmus", "isthmus-daemon", "isthmus-isb", "isthmus-ist", "natbinder"];
    const headings = [...pages.get("cli.md")!.matchAll(/^## (\S+)$/gm)].map(([, name]) => name);
    expect(headings).toEqual(programs);
  });

  it("say of each option and each metric what it means", () => {
    for (const page of [pages.get("cli.md")!, pages.get("metrics.md")!]) {
      expect(page.match(/^\|.*\| +\|$/gm)).toBeNull();
    }
  });

  it("say of each setting what it means, where its name and type do not", () => {
    const bare = [...pages.get("configuration.md")!.matchAll(/^\| `(\S+)`.*\| +\|$/gm)].map(([, setting]) => setting);
    expect(bare).toEqual(["provide[].name", "provide[].channels[].proto", "provide[].channels[].opener"]);
  });

  it("are the same on every host", () => {
    for (const page of pages.values()) expect(page).not.toMatch(/\/home\/|\/root\/|\/tmp\//);
  });
});

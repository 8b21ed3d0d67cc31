import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PORTMAP_CODES, type PortmapCode, PortmapError } from "@isthmus/portmap";
import { expect, it } from "vitest";

it("every code is told in the README, and none that there is not", () => {
  const readme = readFileSync(join(import.meta.dirname, "../README.md"), "utf8");
  const table = readme.slice(readme.indexOf("## Errors"));
  const rows = [...table.matchAll(/^\| `([a-z-]+)` +\| (yes|no) /gm)].map(([, code, final]) => [code, final === "yes"]);
  expect(rows.sort()).toEqual(
    Object.entries(PORTMAP_CODES)
      .map(([code, { final }]) => [code, final])
      .sort(),
  );
});

it("an error says what its code means unless it knows better, and keeps its cause", () => {
  for (const code of Object.keys(PORTMAP_CODES) as PortmapCode[]) {
    expect(new PortmapError(code)).toMatchObject({ name: "PortmapError", code, message: PORTMAP_CODES[code].text });
  }
  const cause = new Error("below");
  expect(new PortmapError("failed", "above", { cause })).toMatchObject({ message: "above", cause });
});

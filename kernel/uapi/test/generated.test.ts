import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { generatedFiles, inRepository, SPECS } from "../generate/outputs.ts";

describe.each(SPECS)("what is generated from kernel/uapi/%s.yaml", (name) => {
  it.each(generatedFiles(name))("$path is what the specification says", ({ path, text }) => {
    expect(readFileSync(inRepository(path), "utf8")).toBe(text);
  });
});

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { generatedFiles, inRepository } from "../generate/outputs.ts";

describe("what is generated from kernel/uapi/ist.yaml", () => {
  it.each(generatedFiles("ist"))("$path is what the specification says", ({ path, text }) => {
    expect(readFileSync(inRepository(path), "utf8")).toBe(text);
  });
});

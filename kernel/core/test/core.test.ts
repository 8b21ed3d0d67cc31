import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const CORE = resolve(import.meta.dirname, "..");
const VECTORS = resolve(CORE, "../../test/vectors/syn-ack.json");
const SANITIZED_BUILD_MS = 120_000;

const tests = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".test.c"));
const targets = readdirSync(join(CORE, "fuzz/corpus"));

describe("kernel/core under sanitizers", () => {
  const build = mkdtempSync(join(tmpdir(), "isthmus-core-"));

  beforeAll(() => {
    const { status, stdout, stderr } = spawnSync("make", ["-s", "-C", CORE, `BUILD=${build}`, "all"], {
      encoding: "utf8",
    });
    expect(stdout + stderr).toBe("");
    expect(status).toBe(0);
  }, SANITIZED_BUILD_MS);

  afterAll(() => rmSync(build, { recursive: true, force: true }));

  it.each(tests)("%s passes", (name) => {
    const { status, stdout, stderr } = spawnSync(join(build, name.slice(0, -2)), [VECTORS], { encoding: "utf8" });
    expect(stdout.split("\n").filter((line) => line !== "" && !line.startsWith("ok "))).toEqual([]);
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(stdout.split("\n").length).toBeGreaterThan(5);
  });

  it.each(targets)("takes the corpus of the fuzz target %s", (target) => {
    const folder = join(CORE, "fuzz/corpus", target);
    const files = readdirSync(folder).map((name) => join(folder, name));
    const { status, stdout, stderr } = spawnSync(join(build, `${target}.replay`), files, { encoding: "utf8" });
    expect(stderr).toBe("");
    expect(stdout).toBe(`replayed ${files.length}\n`);
    expect(status).toBe(0);
    expect(files.length).toBeGreaterThan(20);
  });
});

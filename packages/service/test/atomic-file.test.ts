import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { replaceFile, writeFileAtomic } from "@isthmus/service";
import { expect, it } from "vitest";
import { spawnScript } from "./child/spawn.ts";
import { emptyFolder } from "./folder.ts";

it("replaces a file by text or bytes, for its owner alone unless told otherwise, and leaves nothing else", () => {
  const folder = emptyFolder();
  const path = join(folder, "state");
  writeFileAtomic(path, "one");
  expect(readFileSync(path, "utf8")).toBe("one");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  writeFileAtomic(path, Uint8Array.of(1, 2, 3), { mode: 0o644 });
  expect([...readFileSync(path)]).toEqual([1, 2, 3]);
  expect(statSync(path).mode & 0o777).toBe(0o644);
  writeFileAtomic(path, "x".repeat(5_000_000));
  expect(statSync(path).size).toBe(5_000_000);
  expect(readdirSync(folder)).toEqual(["state"]);
});

it("that fails leaves the old content and nothing else", () => {
  const folder = emptyFolder();
  const target = join(folder, "state");
  mkdirSync(target);
  writeFileSync(join(target, "inside"), "old");
  expect(() => writeFileAtomic(target, "new")).toThrow();
  expect(readdirSync(folder)).toEqual(["state"]);
  expect(readFileSync(join(target, "inside"), "utf8")).toBe("old");
  expect(() => writeFileAtomic(join(folder, "nowhere", "state"), "new")).toThrow("ENOENT");
});

it("replaces a file without holding up the process, and leaves nothing else", async () => {
  const folder = emptyFolder();
  const path = join(folder, "state");
  await replaceFile(path, "one");
  expect(readFileSync(path, "utf8")).toBe("one");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  await replaceFile(path, Uint8Array.of(1, 2, 3), { mode: 0o644 });
  expect([...readFileSync(path)]).toEqual([1, 2, 3]);
  await expect(replaceFile(join(path, "below"), "new")).rejects.toMatchObject({ code: "ENOTDIR" });
  mkdirSync(join(folder, "taken"));
  writeFileSync(join(folder, "taken", "inside"), "old");
  await expect(replaceFile(join(folder, "taken"), "new")).rejects.toThrow();
  expect(readdirSync(folder).sort()).toEqual(["state", "taken"]);
});

it("holds old or new content, never a mixture or a part, whenever the writer is killed", async () => {
  const path = join(emptyFolder(), "state");
  for (let round = 0; round < 8; round++) {
    const child = spawnScript("writer.ts", [path]);
    await once(child.stdout!, "data");
    // Random moments within some writes; about 2 ms each.
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 15));
    child.kill("SIGKILL");
    await once(child, "exit");
    const content = readFileSync(path, "utf8");
    expect(content).toHaveLength(256 * 1024);
    expect(new Set(content).size).toBe(1);
  }
});

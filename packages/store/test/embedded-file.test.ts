import { createHash } from "node:crypto";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, truncateSync, writeSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { silentLogger } from "@isthmus/service";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openStore, type Store } from "../src/index.ts";
import { runChild } from "./child/run.ts";

const logger = silentLogger();
let root: string;
let directory: string;
let file: string;
const cleanups: (() => unknown)[] = [];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "isthmus-store-"));
  directory = join(root, "made", "on", "demand");
  file = join(directory, "store.sqlite");
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
  await rm(root, { recursive: true });
});

async function open(url = directory): Promise<Store> {
  const store = await openStore(url, { logger });
  cleanups.push(() => store.close());
  return store;
}

/** A process that has the store open, has written to it, and is left with its log not folded in when killed. */
async function startHolder() {
  const child = runChild("holder.ts", [directory]);
  cleanups.push(() => child.kill("SIGKILL"));
  await once(createInterface({ input: child.stdout }), "line");
  return {
    async kill() {
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
    },
  };
}

/** Name -> content, of the files that hold records. Only while no store of this process has them open. */
function contents(): { [name: string]: string } {
  return Object.fromEntries(
    readdirSync(directory)
      .map((name) => [name, readFileSync(join(directory, name))] as const)
      .filter(([name, bytes]) => bytes.length > 0 && !name.endsWith("-shm"))
      .map(([name, bytes]) => [name, createHash("sha256").update(bytes).digest("hex")]),
  );
}

function overwrite(offset: number, bytes: Uint8Array): void {
  const fd = openSync(file, "r+");
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

it("makes its folder and file for their owner alone", async () => {
  const store = await open();
  await store.compareAndSet("k", 0, 1);
  expect(statSync(directory).mode & 0o777).toBe(0o700);
  expect(readdirSync(directory).toSorted()).toEqual(["store.sqlite", "store.sqlite-wal"]);
  await store.close();
  for (const name of readdirSync(directory)) expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
  expect(readdirSync(directory)).toEqual(["store.sqlite"]);
});

it("takes a directory as file: too", async () => {
  const version = await (await open(`file://${directory}`)).compareAndSet("k", 0, 1);
  for (const cleanup of cleanups.splice(0)) await cleanup();
  expect(await (await open(`file:${directory}`)).get("k")).toEqual({ value: 1, version });
});

it("refuses a second opener in the same process, and the first is not disturbed", async () => {
  const store = await open();
  for (let attempt = 0; attempt < 3; attempt++) {
    await expect(open()).rejects.toMatchObject({
      code: "store-unavailable",
      message: `cannot open the store ${file}: another process has it open`,
    });
    await store.compareAndSet(`k/${attempt}`, 0, attempt);
  }
  await store.close();
  expect(await (await open()).scan("")).toHaveLength(3);
});

it("refuses while another process has it, until that is killed", async () => {
  const holder = await startHolder();
  await expect(open()).rejects.toThrow(`cannot open the store ${file}: another process has it open`);
  await holder.kill();
  const store = await open();
  expect(await store.scan("held/", { limit: 1000 })).toHaveLength(200);
  expect(readdirSync(directory)).not.toContain("store.sqlite-shm");
});

it("holds the lock before it has written anything", async () => {
  await (await open()).close();
  await open();
  const child = runChild("open.ts", [directory]);
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  expect(line).toContain("another process has it open");
});

it("refuses what a newer version wrote, and leaves it alone", async () => {
  const holder = await startHolder();
  await holder.kill();
  const database = new DatabaseSync(file);
  database.exec("PRAGMA user_version = 2");
  database.close();
  const before = contents();
  await expect(open()).rejects.toThrow(
    `cannot open the store ${file}: a newer version of Isthmus wrote it (its schema is 2, this version knows up to 1)`,
  );
  expect(contents()).toEqual(before);
});

it("refuses a database of something else, and leaves it alone", async () => {
  mkdirSync(directory, { recursive: true });
  for (const version of [0, 1]) {
    const database = new DatabaseSync(file);
    database.exec(`CREATE TABLE IF NOT EXISTS birds (name); PRAGMA user_version = ${version}`);
    database.close();
    const before = contents();
    await expect(open()).rejects.toThrow(`cannot open the store ${file}: `);
    expect(contents()).toEqual(before);
  }
});

it("refuses a file that is no database, and leaves it alone", async () => {
  mkdirSync(directory, { recursive: true });
  await writeFile(file, "my shopping list\n".repeat(1000));
  const before = contents();
  await expect(open()).rejects.toThrow(`cannot open the store ${file}: the file is damaged or no store`);
  expect(contents()).toEqual(before);
});

it("refuses a damaged file, whose log a killed process left behind, and leaves both alone", async () => {
  const holder = await startHolder();
  await holder.kill();
  // Many pages, because the log holds newer ones of some.
  overwrite(10 * 4096, Buffer.alloc(50 * 4096, 0xab));
  const before = contents();
  expect(Object.keys(before)).toContain("store.sqlite-wal");
  await expect(open()).rejects.toThrow(`cannot open the store ${file}: the file is damaged`);
  expect(contents()).toEqual(before);
});

it("refuses a file that lost its end, and leaves it alone", async () => {
  const store = await open();
  for (let n = 0; n < 50; n++) await store.compareAndSet(`k/${n}`, 0, "x".repeat(2000));
  await store.close();
  truncateSync(file, 5 * 4096);
  const before = contents();
  await expect(open()).rejects.toThrow(`cannot open the store ${file}: the file is damaged`);
  expect(contents()).toEqual(before);
});

it("says what stands in the way of its folder", async () => {
  await writeFile(join(root, "made"), "");
  await expect(open()).rejects.toMatchObject({ code: "store-unavailable", message: expect.stringContaining(file) });
});

import { closeSync, fsyncSync, mkdirSync, openSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { IsthmusError } from "@isthmus/protocol";

/** Kept in `user_version`; 0 is a new file. */
const SCHEMA = 1;

const FILE = "store.sqlite";

const TABLES = `
  CREATE TABLE records (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value TEXT NOT NULL) STRICT;
  CREATE TABLE clock (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL) STRICT;
  INSERT INTO clock VALUES (1, 0);
  CREATE TABLE trial (id INTEGER PRIMARY KEY CHECK (id = 1), filler BLOB NOT NULL) STRICT;
  PRAGMA user_version = ${SCHEMA};
`;

/**
 * Opens the store's file in `directory`, making both (0700, 0600) where they are missing; undefined: in memory.
 * @throws IsthmusError `store-unavailable` whose message names the file and says what is wrong with it
 */
export function openDatabase(directory: string | undefined): DatabaseSync {
  const path = directory === undefined ? ":memory:" : resolve(directory, FILE);
  let database: DatabaseSync | undefined;
  try {
    if (directory !== undefined) {
      createFile(resolve(directory), path);
      examine(path);
    }
    database = new DatabaseSync(path, { timeout: 0 });
    // Exclusive: the system's lock on the file lasts until this process ends, however it ends, and refuses a second
    // one. Full: a commit is on the disk before it is acknowledged.
    database.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    database.exec("BEGIN EXCLUSIVE");
    if (schemaOf(database) === 0) database.exec(TABLES);
    database.exec("COMMIT");
    // The shared-memory index of `examine`. Under the exclusive lock nobody uses one.
    if (directory !== undefined) rmSync(`${path}-shm`, { force: true });
    return database;
  } catch (error) {
    database?.close();
    throw explain(path, error);
  }
}

/** What is wrong with the file that an error speaks of, as an operator would say it. */
function explain(path: string, error: unknown): IsthmusError {
  const SQLITE = { busy: 5, corrupt: 11, notADatabase: 26 };
  const { errcode, message } = error as Error & { errcode?: number };
  let problem = message;
  // The low byte is the kind, the rest its variety.
  if (errcode !== undefined && (errcode & 0xff) === SQLITE.busy) problem = "another process has it open";
  if (errcode !== undefined && (errcode & 0xff) === SQLITE.corrupt) problem = `the file is damaged (${message})`;
  if (errcode !== undefined && (errcode & 0xff) === SQLITE.notADatabase) problem = "the file is damaged or no store";
  return new IsthmusError("store-unavailable", `cannot open the store ${path}: ${problem}`, { cause: error });
}

function createFile(directory: string, path: string): void {
  const firstMade = mkdirSync(directory, { recursive: true, mode: 0o700 });
  try {
    // Never opened when it exists: closing any descriptor of a file drops all locks that this process holds on it.
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return;
    throw error;
  }
  // What was made is found again after a power cut once each folder above it is on the disk.
  const highest = firstMade === undefined ? directory : dirname(firstMade);
  for (let folder = directory; ; folder = join(folder, "..")) {
    const fd = openSync(folder, "r");
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    if (folder === highest) return;
  }
}

/**
 * Checks a file through a connection that cannot write: one that can would, when closed, fold the write-ahead log into
 * a damaged file or into one that a newer version wrote. Reads the whole file.
 */
function examine(path: string): void {
  const database = new DatabaseSync(path, { readOnly: true, timeout: 0 });
  try {
    const schema = schemaOf(database);
    if (schema > SCHEMA) {
      throw new Error(
        `a newer version of Isthmus wrote it (its schema is ${schema}, this version knows up to ${SCHEMA})`,
      );
    }
    if (schema === 0 && database.prepare("SELECT 1 FROM sqlite_schema").get() !== undefined) {
      throw new Error("it is a database of something else");
    }
    // Fails for a stranger's file that happens to have the same number.
    if (schema > 0) database.prepare("SELECT 1 FROM records, clock, trial").get();
    const [result] = Object.values(database.prepare("PRAGMA quick_check(1)").get()!);
    if (result !== "ok") throw new Error(`the file is damaged (${String(result).replaceAll("\n", " ")})`);
  } finally {
    database.close();
  }
}

function schemaOf(database: DatabaseSync): number {
  return database.prepare("PRAGMA user_version").get()!.user_version as number;
}

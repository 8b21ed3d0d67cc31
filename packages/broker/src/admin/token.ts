import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "@isthmus/service";

/** Of the data folder. Whoever can read it may do what the operator may. */
const FILE = "admin-token";

/** The token of a data folder, made at the first start (mode 0600). */
export function loadOrCreateAdminToken(folder: string): string {
  try {
    return readAdminToken(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const token = randomBytes(32).toString("base64url");
  writeFileAtomic(join(folder, FILE), `${token}\n`, { mode: 0o600 });
  return token;
}

/** @throws the system's error when there is none, or none that may be read */
export function readAdminToken(folder: string): string {
  return readFileSync(join(folder, FILE), "utf8").trim();
}

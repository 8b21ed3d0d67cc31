import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../../..");

/** Node 24, which runs this. */
export const NODE = process.execPath;

/** A second or less, but for a machine that has much else to do. */
export const START_TIMEOUT_MS = 30_000;

export type App = "isb" | "ist" | "daemon" | "cli" | "natbinder";

/** What `node` runs for one of the apps, as it was built. @throws Error that says how to build it */
export function appProgram(app: App): string {
  const path = join(root, "apps", app, "dist", "main.js");
  if (!existsSync(path)) throw new Error(`${path} is missing: 'npx turbo run build'`);
  return path;
}

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { jsonSchemaFiles } from "./json-schemas.ts";
import { protocolPage } from "./page.ts";

/** Where the reference is kept, from the root of the repository. */
export const REFERENCE_FOLDER = join(import.meta.dirname, "..", "..", "..", "docs", "reference");

/** Every generated file, by its path in the reference folder. */
export function referenceFiles(): Map<string, string> {
  const files = new Map([["protocol.md", protocolPage()]]);
  for (const [name, content] of jsonSchemaFiles()) files.set(join("schema", name), content);
  return files;
}

if (import.meta.main) {
  for (const [path, content] of referenceFiles()) {
    const target = join(REFERENCE_FOLDER, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, content);
  }
}

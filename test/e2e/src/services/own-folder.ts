import { chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Node, ORDINARY_UID } from "@isthmus/lab";

/** A folder in the node's own that the ordinary user may write to; made if missing. */
export function ownFolder(node: Node, ...names: string[]): string {
  const folder = join(node.folder, ...names);
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  chownSync(folder, ORDINARY_UID, ORDINARY_UID);
  return folder;
}

/** A file of the ordinary user that nobody else may read, as keys need it. */
export function ownFile(path: string, text: string | Uint8Array): void {
  writeFileSync(path, text, { mode: 0o600 });
  chownSync(path, ORDINARY_UID, ORDINARY_UID);
}

import { type Node, ORDINARY_UID } from "@isthmus/lab";
import { ownFolder } from "./own-folder.ts";

/** A Redis that keeps nothing on disk. */
export async function startRedis(node: Node, port: number): Promise<void> {
  const folder = ownFolder(node, "redis");
  const flags = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder];
  const program = node.spawn("redis-server", flags, { uid: ORDINARY_UID });
  await program.waitForOutput(/Ready to accept connections/);
}

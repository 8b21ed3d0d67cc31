import { type Node, ORDINARY_UID, type Program } from "@isthmus/lab";
import { ownFolder } from "./own-folder.ts";

const FORGETFUL = ["--appendonly", "no"];
const DURABLE = ["--appendonly", "yes", "--appendfsync", "always"];

/**
 * A Redis of the node's 127.0.0.1.
 * @param options.durable every write is on disk before it is answered, and there again after a restart
 */
export async function startRedis(node: Node, port: number, options: { durable?: boolean } = {}): Promise<Program> {
  const folder = ownFolder(node, "redis");
  const keeps = options.durable ? DURABLE : FORGETFUL;
  const flags = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", ...keeps, "--dir", folder];
  const program = node.spawn("redis-server", flags, { uid: ORDINARY_UID });
  await program.waitForOutput(/Ready to accept connections/);
  return program;
}

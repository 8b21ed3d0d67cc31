import { chmodSync, lstatSync, mkdirSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import type { FastifyInstance } from "fastify";
import { ensureOwnFolder, isSharedFolder, requireOwnFolder } from "./paths.ts";

/** A Unix socket's path must fit `sun_path` of `sockaddr_un`. */
const MOST_PATH_BYTES = 107;

/**
 * Listens on a Unix socket that only its owner may open.
 * @throws Error as of {@link claimSocketPath}
 */
export async function listenOnSocket(app: FastifyInstance, path: string): Promise<void> {
  await claimSocketPath(path);
  const before = process.umask(0o177);
  try {
    await app.listen({ path });
  } finally {
    process.umask(before);
  }
  chmodSync(path, 0o600);
}

/**
 * Makes the path of a Unix socket free, and its folder where there is none.
 * @param options.isOpenToOthers other users may go through the folder, if it is made
 * @throws Error when another daemon listens there, something else is there, the path is too long, or its folder is not
 * the user's own
 */
export async function claimSocketPath(path: string, { isOpenToOthers = false } = {}): Promise<void> {
  if (Buffer.byteLength(path) > MOST_PATH_BYTES)
    throw new Error(`the socket's path is longer than ${MOST_PATH_BYTES} bytes: ${path}`);
  const folder = dirname(path);
  if (!isSharedFolder(folder)) {
    if (isOpenToOthers) {
      mkdirSync(folder, { recursive: true, mode: 0o755 });
      requireOwnFolder(folder);
    } else ensureOwnFolder(folder);
  }
  // Nobody's file is taken for what a killed daemon has left.
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === false) throw new Error(`${path} is not a socket`);
  if (await isAnswered(path)) throw new Error(`another daemon is running: ${path} is in use`);
  rmSync(path, { force: true });
}

/** A socket file without anybody behind it is what a killed daemon left. */
function isAnswered(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.once("connect", () => {
    socket.destroy();
    resolve(true);
  });
  // Somebody listens there for messages instead of bytes.
  socket.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code === "EPROTOTYPE"));
  return promise;
}

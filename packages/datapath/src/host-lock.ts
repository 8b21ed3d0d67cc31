import { once } from "node:events";
import { createServer, type Server } from "node:net";

/** Another process has what only one may have. */
export class HeldLockError extends Error {
  override readonly name = "HeldLockError";
}

/**
 * What only one process per host may have: an abstract Unix socket, which belongs to the network namespace, has no file
 * and vanishes with its process, however that ends.
 */
export class HostLock {
  readonly #server: Server;

  /** @throws HeldLockError that says what another IST does here: by default, that it runs */
  static async take(name: string, other = "another IST runs on this host"): Promise<HostLock> {
    const server = createServer((socket) => socket.destroy());
    server.listen({ path: `\0${name}` });
    try {
      await once(server, "listening");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
      throw new HeldLockError(`${other} (it holds the lock '${name}')`, { cause: error });
    }
    // Held for as long as the process needs it, and no reason for the process to stay.
    server.unref();
    return new HostLock(server);
  }

  private constructor(server: Server) {
    this.#server = server;
  }

  release(): void {
    this.#server.close();
  }
}

import { once } from "node:events";
import { mkdirSync, statSync } from "node:fs";
import { createServer, type Server } from "node:net";

/**
 * What only one daemon may have of each state folder: two of one key would push each other out of every session, and
 * overwrite what the other remembers. An abstract Unix socket: it has no file and vanishes with its process, however that
 * ends.
 */
export class StateLock {
  readonly #server: Server;

  /** Makes the folder if it is not there. @throws Error that says that another daemon uses it */
  static async take(folder: string): Promise<StateLock> {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { dev, ino } = statSync(folder, { bigint: true });
    const server = createServer((socket) => socket.destroy());
    server.listen({ path: `\0isthmus-daemon-${dev}-${ino}` });
    try {
      await once(server, "listening");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
      throw new Error(`another daemon is running: it uses ${folder}`, { cause: error });
    }
    // Held for as long as the process needs it, and no reason for the process to stay.
    server.unref();
    return new StateLock(server);
  }

  private constructor(server: Server) {
    this.#server = server;
  }

  release(): void {
    this.#server.close();
  }
}

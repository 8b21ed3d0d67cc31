import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const SERVER = "/usr/bin/redis-server";
const START_MS = 15_000;
const START_ATTEMPTS = 5;

/** A port of 127.0.0.1 that was free a moment ago; the one 10,000 above, a cluster node's second, exists. */
async function freePort(): Promise<number> {
  for (;;) {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    server.close();
    await once(server, "close");
    if (port < 55_000) return port;
  }
}

export interface RedisProcessOptions {
  /** A Sentinel instead of a server of data. */
  sentinel?: boolean;
  /** Further lines of its configuration, given its port. */
  config?: (port: number) => string[];
}

/**
 * A real redis-server on a loopback port, with its files in a folder of its own. It ends with the process that started
 * it, whatever becomes of that. What it acknowledged is on the disk.
 */
export class RedisProcess {
  readonly port: number;
  readonly #directory: string;
  readonly #command: string[];
  #child: ChildProcess | undefined;

  private constructor(port: number, directory: string, command: string[]) {
    this.port = port;
    this.#directory = directory;
    this.#command = command;
  }

  static async start(options: RedisProcessOptions = {}): Promise<RedisProcess> {
    if (!existsSync(SERVER)) throw new Error(`${SERVER} is missing: apt-get install redis-server`);
    for (let attempt = 1; ; attempt++) {
      const directory = await mkdtemp(join(tmpdir(), "isthmus-redis-"));
      const port = await freePort();
      const file = join(directory, "redis.conf");
      const data = ['save ""', "appendonly yes", "appendfsync always"];
      const common = [`port ${port}`, "bind 127.0.0.1", `dir ${directory}`];
      const lines = [...common, ...(options.sentinel ? [] : data), ...(options.config?.(port) ?? [])];
      await writeFile(file, `${lines.join("\n")}\n`);
      const redis = new RedisProcess(port, directory, [SERVER, file, ...(options.sentinel ? ["--sentinel"] : [])]);
      try {
        await redis.restart();
        return redis;
      } catch (error) {
        await redis.remove();
        // Somebody else may have taken the port meanwhile.
        if (attempt === START_ATTEMPTS) throw error;
      }
    }
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Starts it again on the same port and files, after `kill`. */
  async restart(): Promise<void> {
    // The kernel ends it when the thread that started it is gone.
    const child = spawn("setpriv", ["--pdeathsig", "KILL", ...this.#command], { stdio: ["ignore", "pipe", "inherit"] });
    this.#child = child;
    const log: string[] = [];
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`redis-server ${why}: ${log.slice(-5).join(" | ")}`));
      const timer = setTimeout(() => fail("did not start in time"), START_MS);
      createInterface({ input: child.stdout }).on("line", (line) => {
        log.push(line);
        if (/Ready to accept connections|Sentinel ID is/.test(line)) {
          clearTimeout(timer);
          resolve();
        }
      });
      child.once("error", reject);
      child.once("exit", (status) => {
        clearTimeout(timer);
        fail(`ended with status ${status}`);
      });
    });
  }

  /** Without any warning, as in a power cut. Resolves when it is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  /** It keeps its connections but answers nothing, until `resume`. */
  freeze(): void {
    this.#child!.kill("SIGSTOP");
  }

  resume(): void {
    this.#child!.kill("SIGCONT");
  }

  /** Ends it and deletes its files. */
  async remove(): Promise<void> {
    await this.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

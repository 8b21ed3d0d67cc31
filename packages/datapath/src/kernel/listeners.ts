import { readFile } from "node:fs/promises";

const TABLES = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/** `TCP_LISTEN`, as the tables show it. */
const LISTEN = "0A";
/** What was read serves this long: services are started seldom, connections made often. */
const FRESH_MS = 500;

/** The TCP ports on which somebody listens on this host (in this network namespace). */
export class Listeners {
  readonly #files: readonly string[];
  #read: { ports: Promise<ReadonlySet<number>>; at: number } | undefined;

  /** @param files tables of sockets, as Linux shows them; one that cannot be read holds none */
  constructor(files: readonly string[] = TABLES) {
    this.#files = files;
  }

  async holds(port: number): Promise<boolean> {
    const now = performance.now();
    if (!this.#read || now - this.#read.at > FRESH_MS) {
      this.#read = { ports: Promise.all(this.#files.map(portsIn)).then((lists) => new Set(lists.flat())), at: now };
    }
    return (await this.#read.ports).has(port);
  }
}

async function portsIn(file: string): Promise<number[]> {
  const text = await readFile(file, "utf8").catch(() => "");
  return text.split("\n").flatMap((line) => {
    // Slot, local ADDRESS:PORT, remote ADDRESS:PORT, state; hexadecimal.
    const [, local, , state] = line.trim().split(/\s+/);
    return state === LISTEN && local ? [Number.parseInt(local.slice(local.lastIndexOf(":") + 1), 16)] : [];
  });
}

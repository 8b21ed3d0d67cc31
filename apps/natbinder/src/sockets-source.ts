import { readFileSync } from "node:fs";
import { readdir, readlink } from "node:fs/promises";
import type { Policy } from "@isthmus/binding";
import type { OpenSocket } from "@isthmus/native/sockets";
import type { Logger } from "@isthmus/service";
import type { BindListener, BindSource } from "./bind-source.ts";
import type { OpenSockets } from "./open-sockets.ts";
import { settledBind } from "./settled-bind.ts";

/** The kernel tells of no bind: how late one may be seen. */
const LOOK_MS = 500;

export interface SocketsSourceOptions {
  policy: Policy;
  open: OpenSockets;
  logger: Logger;
}

/**
 * Sees the ports of all programs by looking at the kernel's list of sockets now and then: without any privilege, but it
 * refuses nothing, and leaves alone the ports that the kernel may have chosen.
 */
export class SocketsSource implements BindSource {
  readonly name = "sockets";
  readonly #options: SocketsSourceOptions;
  readonly #isChosen = chosenPorts();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #isStopped = false;
  /** By cookie. */
  #known = new Set<string>();

  constructor(options: SocketsSourceOptions) {
    this.#options = options;
  }

  async start(listener: BindListener): Promise<void> {
    await this.#look(listener);
    this.#schedule(listener);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
  }

  /** Nothing can be refused, so nothing has to be known. */
  tell(): void {}

  /** `natbinder run` is better: it refuses, and knows which ports were asked for. */
  covers(): boolean {
    return false;
  }

  #schedule(listener: BindListener): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.#looking = this.#look(listener).catch((err: Error) => {
        if (!this.#isStopped) this.#options.logger.warn({ err }, "the sockets of this host cannot be listed");
      });
      void this.#looking.finally(() => this.#schedule(listener));
    }, LOOK_MS).unref();
  }

  async #look(listener: BindListener): Promise<void> {
    const { open, policy } = this.#options;
    const { tcp, udp } = await open.list();
    const all = [
      ...tcp.map((socket) => ({ socket, protocol: "tcp" as const })),
      ...udp.map((socket) => ({ socket, protocol: "udp" as const })),
    ].filter(({ socket }) => this.#isOfInterest(socket, policy));
    const fresh = all.filter(({ socket }) => !this.#known.has(socket.cookie));
    this.#known = new Set(all.map(({ socket }) => socket.cookie));
    if (fresh.length === 0) return;
    const holders = await holdersOf(new Set(fresh.map(({ socket }) => socket.inode)));
    for (const { socket, protocol } of fresh) {
      const { pid, program } = holders.get(socket.inode) ?? { pid: 0, program: "" };
      // Whose it is cannot be told, so that no rule can be looked at; or it is this process' own search for gateways.
      if ((program === "" && policy.programs.length > 0) || pid === process.pid) continue;
      const { port, uid, cookie } = socket;
      const family = socket.family === 4 ? "ipv4" : "ipv6";
      void listener.opened(settledBind({ socket: cookie, pid, uid, program, family, protocol, port }));
    }
  }

  #isOfInterest({ port, isConnected, takesAll, family, inode }: OpenSocket, { dualStack }: Policy): boolean {
    return !isConnected && takesAll && inode !== 0 && !this.#isChosen(port) && (family === 4 || dualStack);
  }
}

/** Tells the ports that the kernel chooses from: who has one may not have asked for it. */
function chosenPorts(): (port: number) => boolean {
  const [first = 0, last = 0] = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "latin1")
    .split(/\s+/)
    .map(Number);
  return (port) => port >= first && port <= last;
}

/** The processes that have sockets open, by inode, as far as this process may look. */
async function holdersOf(inodes: ReadonlySet<number>): Promise<Map<number, { pid: number; program: string }>> {
  const holders = new Map<number, { pid: number; program: string }>();
  for (const name of await readdir("/proc")) {
    if (holders.size === inodes.size) break;
    const pid = Number(name);
    // Another user's, or it has ended meanwhile.
    const files = pid > 0 ? await readdir(`/proc/${pid}/fd`).catch(() => []) : [];
    for (const file of files) {
      const target = await readlink(`/proc/${pid}/fd/${file}`).catch(() => "");
      const inode = Number(/^socket:\[(\d+)\]$/.exec(target)?.[1]);
      if (inodes.has(inode) && !holders.has(inode)) holders.set(inode, { pid, program: nameOf(pid) });
    }
  }
  return holders;
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "latin1")
      .trimEnd()
      .replace(/[^ -~]/g, "?");
  } catch {
    return "";
  }
}

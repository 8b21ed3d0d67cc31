import { setTimeout as sleep } from "node:timers/promises";
import type { Owner, PortKey } from "@isthmus/binding";
import { type OpenSocket, type ShownSocket, SocketWatch } from "@isthmus/native/sockets";
import { HAND_OVER_MS } from "./sweep.ts";

const IPPROTO_MPTCP = 262;
/** Ends that come within that time are looked after together: a list of all sockets is dear. */
const GATHER_MS = 20;
/** More than can end while one bind is on its way. */
const MOST_GONE = 4096;
/** Before the cookie of a socket of MPTCP, whose end is not told: its own TCP sockets are, which have other cookies. */
const MPTCP = "mptcp ";

/** The owner that `isthmus natbinder map` makes: no socket, and open until it is told otherwise. */
export function adminOwner({ protocol, port }: Pick<PortKey, "protocol" | "port">): string {
  return `admin ${protocol} ${port}`;
}

export function isAdminOwner(socket: string): boolean {
  return socket.startsWith("admin ");
}

export function ownerName({ protocol, cookie }: ShownSocket): string {
  return protocol === IPPROTO_MPTCP ? MPTCP + cookie : cookie;
}

export interface OpenSocketsOptions {
  onClosed: (owner: string) => void;
  /** Some ends were not heard: ask for {@link OpenSockets.whatIsOpen}. */
  onMissed: () => void;
}

/** Which sockets of this host are open, and which close, by the names of owners in the ideal state. */
export class OpenSockets {
  readonly #options: OpenSocketsOptions;
  readonly #watch: SocketWatch;
  /** By port. */
  readonly #mptcp = new Map<number, Set<string>>();
  /** The last ones, the oldest first. */
  readonly #gone = new Set<string>();
  /** Of a list that is not begun yet. */
  #listening: Promise<Set<number>> | undefined;

  /** @throws Error where the kernel does not tell */
  constructor(options: OpenSocketsOptions) {
    this.#options = options;
    this.#watch = new SocketWatch({ onGone: (socket) => this.#takeEnd(socket), onMissed: options.onMissed });
  }

  /** An owner that is to be watched. */
  add(owner: string, port: number): void {
    if (!owner.startsWith(MPTCP)) return;
    const owners = this.#mptcp.get(port) ?? new Set();
    this.#mptcp.set(port, owners.add(owner));
  }

  /** Whether a socket was heard to end lately: who tells of its bind may be slower than who tells of its end. */
  isGone(owner: string): boolean {
    return this.#gone.has(owner);
  }

  /** Every TCP and UDP socket of this network. @throws NetlinkError */
  async list(): Promise<{ tcp: OpenSocket[]; udp: OpenSocket[] }> {
    return { tcp: await this.#watch.open("tcp"), udp: await this.#watch.open("udp") };
  }

  /** Tells of each owner whether its socket is open still. */
  async whatIsOpen(): Promise<(key: PortKey, owner: Owner) => boolean> {
    const open = await this.list();
    // A cookie of before the host's last start may be another socket's by now: its port counts too.
    const names = { tcp: namesOf(open.tcp), udp: namesOf(open.udp) };
    const listening = new Set(open.tcp.filter(({ isConnected }) => !isConnected).map(({ port }) => port));
    return ({ protocol, port }, { socket }) => {
      if (isAdminOwner(socket)) return true;
      if (!socket.startsWith(MPTCP)) return names[protocol].has(`${socket} ${port}`);
      this.add(socket, port);
      return listening.has(port);
    };
  }

  close(): void {
    this.#watch.close();
  }

  #takeEnd({ cookie, port }: OpenSocket): void {
    this.#gone.add(cookie);
    if (this.#gone.size > MOST_GONE) {
      const [oldest = ""] = this.#gone;
      this.#gone.delete(oldest);
    }
    this.#options.onClosed(cookie);
    if (this.#mptcp.has(port)) void this.#lookAfterMptcp(port);
  }

  /**
   * Ends owners of a port where nobody listens any more. What has ended may be the socket that kept the port for an owner
   * until its own bind(), which is about to come: so it is looked at twice.
   */
  async #lookAfterMptcp(port: number): Promise<void> {
    const owners = [...(this.#mptcp.get(port) ?? [])];
    try {
      if ((await this.#listenedPorts()).has(port)) return;
      await sleep(HAND_OVER_MS, undefined, { ref: false });
      if ((await this.#listenedPorts()).has(port)) return;
    } catch {
      this.#options.onMissed();
      return;
    }
    for (const owner of owners) this.#forget(owner, port);
  }

  #forget(owner: string, port: number): void {
    const owners = this.#mptcp.get(port);
    if (!owners?.delete(owner)) return;
    if (owners.size === 0) this.#mptcp.delete(port);
    this.#options.onClosed(owner);
  }

  /** Ports of TCP at which somebody listens, or is about to, as they are after this call. */
  #listenedPorts(): Promise<Set<number>> {
    this.#listening ??= this.#listListened();
    return this.#listening;
  }

  async #listListened(): Promise<Set<number>> {
    await sleep(GATHER_MS, undefined, { ref: false });
    this.#listening = undefined;
    return new Set((await this.#watch.open("tcp", { unconnected: true })).map(({ port }) => port));
  }
}

function namesOf(sockets: readonly OpenSocket[]): Set<string> {
  return new Set(sockets.map(({ cookie, port }) => `${cookie} ${port}`));
}

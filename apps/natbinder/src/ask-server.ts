import type { BindAnswer, Binding, BindRequest } from "@isthmus/binding";
import { type DoorPeer, ownNetwork, type ShownSocket, SocketDoor } from "@isthmus/native/sockets";
import { type AskRequest, readAskRequest, writeAskReply } from "@isthmus/protocol";
import { claimSocketPath, type Logger } from "@isthmus/service";
import type { NatbinderMetrics } from "./natbinder-metrics.ts";
import { type OpenSockets, ownerName } from "./open-sockets.ts";
import type { SystemWide } from "./system-wide.ts";

/** One for each program that runs; a user who opens more is up to something. */
const MOST_CONNECTIONS_PER_USER = 512;
/** Questions of one user that wait for the gateway. */
const MOST_WAITING_PER_USER = 256;
const [SOCK_STREAM, SOCK_DGRAM] = [1, 2];
const [IPPROTO_TCP, IPPROTO_UDP, IPPROTO_MPTCP] = [6, 17, 262];

export interface AskServerOptions {
  binding: Binding;
  open: OpenSockets;
  systemWide?: SystemWide;
  metrics: NatbinderMetrics;
  logger: Logger;
}

/**
 * The Unix socket at which programs ask for mappings. Whoever asks shows the socket that holds the port: nobody gets a
 * mapping for a port that he does not hold, nor ends one of a socket that he does not hold.
 */
export class AskServer {
  readonly #options: AskServerOptions;
  readonly #network = ownNetwork();
  readonly #connections = new Map<number, number>();
  readonly #waiting = new Map<number, number>();
  #door: SocketDoor | undefined;

  constructor(options: AskServerOptions) {
    this.#options = options;
  }

  /** @throws Error when the socket cannot be made */
  async start(path: string): Promise<void> {
    await claimSocketPath(path, { isOpenToOthers: true });
    this.#door = new SocketDoor({
      path,
      mode: 0o666,
      onConnect: (peer) => this.#connect(peer),
      onMessage: (peer, bytes, sockets) => this.#take(peer, bytes, sockets),
      onClose: ({ uid }) => count(this.#connections, uid, -1),
    });
  }

  stop(): void {
    this.#door?.close();
  }

  #connect(peer: DoorPeer): void {
    count(this.#connections, peer.uid, 1);
    if ((this.#connections.get(peer.uid) ?? 0) > MOST_CONNECTIONS_PER_USER) this.#refuse(peer, "too-many");
  }

  #take(peer: DoorPeer, bytes: Uint8Array, sockets: readonly (ShownSocket | null)[]): void {
    const request = readAskRequest(bytes);
    const [first, second = first] = sockets;
    if (request?.what === "cover") this.#answer(peer, request, this.#covers(peer) ? "succeeded" : "ignored");
    else if (!request || !first || !second) this.#refuse(peer, "malformed");
    else if (request.what === "release") this.#options.binding.close("", ownerName(first));
    else {
      const bind = this.#bindOf(peer, request, first, second);
      if (!bind) this.#refuse(peer, "no-proof");
      else if ((this.#waiting.get(peer.uid) ?? 0) < MOST_WAITING_PER_USER) void this.#bind(peer, request, bind);
      else this.#answer(peer, request, "ignored");
    }
  }

  async #bind(peer: DoorPeer, request: AskRequest, bind: BindRequest): Promise<void> {
    const { binding, open, metrics, logger } = this.#options;
    count(this.#waiting, peer.uid, 1);
    const startedMs = performance.now();
    // The owner is known before anything is waited for: the socket is open until this function gives way.
    open.add(bind.socket, bind.port);
    const answer = await binding.bind(bind);
    count(this.#waiting, peer.uid, -1);
    metrics.countBind(answer, performance.now() - startedMs);
    const { program, pid, protocol, port } = bind;
    logger.debug({ program, pid, protocol, port, ...answer }, "bind");
    this.#answer(peer, request, answer.answer);
  }

  /** Whether binds of that process are seen without its asking. */
  #covers({ pid }: DoorPeer): boolean {
    const { source } = this.#options.systemWide ?? {};
    return source !== undefined && (source.covers?.(pid) ?? true);
  }

  #answer(peer: DoorPeer, { number }: AskRequest, answer: BindAnswer["answer"]): void {
    this.#door?.answer(peer, writeAskReply(number, answer));
  }

  /** What is asked for, if what was shown proves it. */
  #bindOf(
    peer: DoorPeer,
    { pid, program }: AskRequest,
    holder: ShownSocket,
    owner: ShownSocket,
  ): BindRequest | undefined {
    const protocol = protocolOf(holder);
    const isProof =
      protocol !== undefined &&
      protocolOf(owner) === protocol &&
      holder.family === owner.family &&
      holder.device === 0 &&
      holder.network === this.#network &&
      owner.network === this.#network &&
      holder.port !== 0 &&
      (owner.port === 0 || owner.port === holder.port);
    if (!isProof) return undefined;
    return {
      namespace: "",
      socket: ownerName(owner),
      pid,
      uid: peer.uid,
      program,
      family: holder.family === 4 ? "ipv4" : "ipv6",
      protocol,
      address: holder.address,
      port: holder.port,
      v6only: holder.v6only !== 0,
    };
  }

  #refuse(peer: DoorPeer, reason: "malformed" | "no-proof" | "too-many"): void {
    this.#options.metrics.countRefused(reason);
    this.#options.logger.warn({ uid: peer.uid, pid: peer.pid, reason }, "a program was refused");
    count(this.#connections, peer.uid, -1);
    this.#door?.drop(peer);
  }
}

function protocolOf({ type, protocol }: ShownSocket): "tcp" | "udp" | undefined {
  if (type === SOCK_STREAM && (protocol === IPPROTO_TCP || protocol === IPPROTO_MPTCP)) return "tcp";
  return type === SOCK_DGRAM && protocol === IPPROTO_UDP ? "udp" : undefined;
}

function count(counts: Map<number, number>, uid: number, change: number): void {
  const value = (counts.get(uid) ?? 0) + change;
  if (value > 0) counts.set(uid, value);
  else counts.delete(uid);
}

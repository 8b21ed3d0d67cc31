import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { nodeUdpSockets, type UdpSockets, udpSockets } from "@isthmus/native/udp";
import { type HostPort, IsthmusError } from "@isthmus/protocol";
import { createIdentity, silentLogger } from "@isthmus/service";
import {
  createStaticKey,
  Initiator,
  LegPort,
  Link,
  type LinkEvent,
  type LinkHost,
  type OpenRequest,
  respond,
} from "../src/index.ts";

/** One daemon's half: a link, its leg port, and a control way to the other half that can be switched off. */
export class Half {
  readonly identity = createIdentity();
  staticKey = createStaticKey();
  readonly sockets: UdpSockets;
  readonly legPort: LegPort;
  readonly counted = new Map<LinkEvent, number>();
  readonly ended: string[] = [];
  link!: Link;
  port = 0;
  /** Where admitted opens are connected to; a code refuses. */
  target: HostPort | ConstructorParameters<typeof IsthmusError>[0] = "service-down";
  asked: OpenRequest[] = [];
  isbUp = true;
  other!: Half;
  keysLost = 0;
  needsAllocation = 0;
  probes: string[] = [];

  constructor(sockets: UdpSockets = udpSockets) {
    this.sockets = sockets;
    this.legPort = new LegPort({
      sockets,
      find: (generation) => (this.link.stateOf(generation) ? this.link : undefined),
      probed: (nonce) => this.probes.push(nonce.toString("hex")),
      refused: () => this.#count("leg-refused"),
    });
  }

  #count(event: LinkEvent): void {
    this.counted.set(event, (this.counted.get(event) ?? 0) + 1);
  }

  join(other: Half): void {
    this.other = other;
    const host: LinkHost = {
      sendViaIst: () => false,
      sendViaIsb: (_link, frame) => {
        if (!this.isbUp) return false;
        setImmediate(() => other.link.receiveControl(Buffer.from(frame), "isb"));
        return true;
      },
      admit: (_link, request) => {
        this.asked.push(request);
        if (typeof this.target === "string") throw new IsthmusError(this.target);
        return this.target;
      },
      keysAdded: () => undefined,
      keysLost: () => this.keysLost++,
      needAllocation: () => this.needsAllocation++,
      suspect: () => undefined,
      streamEnded: (_link, _subscription, code, direction) => this.ended.push(`${direction} ${code}`),
      flowRefused: (_link, _subscription, code) => this.ended.push(`flow ${code}`),
      count: (event) => this.#count(event),
    };
    this.link = new Link({
      identity: this.identity,
      staticKey: this.staticKey,
      peer: other.identity.publicKey,
      host,
      logger: silentLogger(),
      sockets: this.sockets,
    });
  }

  /** The process is another one: keys and connections are gone, the device's key and the leg port are the same. */
  restart(): void {
    this.link.close();
    this.staticKey = createStaticKey();
    this.join(this.other);
  }

  close(): void {
    this.link.close();
    this.legPort.close();
  }
}

let requests = 0;

/** A handshake as it would run through the ISB: `a` subscribes, `b` provides. */
export function agree(a: Half, b: Half): void {
  beginToAgree(a, b)();
}

/** `b` has the keys. @returns gives them to `a` */
export function beginToAgree(a: Half, b: Half): () => void {
  const shared = { requestId: `request-${requests++}`, subject: "web@bob" };
  const initiator = new Initiator({ identity: a.identity, staticKey: a.staticKey, ...shared });
  const answer = respond({ identity: b.identity, staticKey: b.staticKey, ...shared }, initiator.message, Date.now());
  b.link.addGeneration(answer.generation);
  return () => a.link.addGeneration(initiator.finish(answer.message, Date.now()).generation);
}

/** Every kind of UDP sockets that this machine has: what carries datagrams passes the same tests over each. */
export const kindsOfSockets = [...new Set([udpSockets, nodeUdpSockets])];

/** Two daemons without common keys, each with a leg port. */
export async function twoStrangers(sockets?: UdpSockets): Promise<[Half, Half]> {
  const [a, b] = [new Half(sockets), new Half(sockets)];
  a.join(b);
  b.join(a);
  for (const half of [a, b]) half.port = await half.legPort.listen(0);
  return [a, b];
}

/** Two daemons with common keys; `reachable` has a leg port that the other one dials, later where it is not told yet. */
export async function twoDaemons(
  reachable: "a" | "b",
  { isTold = true, sockets }: { isTold?: boolean; sockets?: UdpSockets } = {},
): Promise<{ a: Half; b: Half; tell: () => void }> {
  const [a, b] = await twoStrangers(sockets);
  agree(a, b);
  const [server, dialler] = reachable === "a" ? [a, b] : [b, a];
  server.link.setDirect(false, []);
  const tell = (): void => dialler.link.setDirect(true, [{ host: "127.0.0.1", port: server.port }]);
  if (isTold) tell();
  return { a, b, tell };
}

/** A TCP service on loopback. */
export async function serve(onConnection: (socket: Socket) => void): Promise<{ server: Server; address: HostPort }> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => undefined);
    onConnection(socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, address: { host: "127.0.0.1", port: (server.address() as { port: number }).port } };
}

/** A client's connection and the daemon's end of it, as a subscription's listener would have it. */
export async function localPair(): Promise<{ client: Socket; accepted: Socket }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: false }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect({ port: (server.address() as { port: number }).port, host: "127.0.0.1", allowHalfOpen: true });
  const [accepted] = (await once(server, "connection")) as [Socket];
  server.close();
  return { client, accepted };
}

import { randomBytes } from "node:crypto";
import { z } from "zod";

const owner = z.strictObject({
  /** Names the socket within its namespace: its cookie. */
  socket: z.string().min(1).max(64),
  pid: z.int().nonnegative(),
  uid: z.int().nonnegative(),
  program: z.string().max(64),
  /** Seconds since 1970. */
  since: z.number().nonnegative(),
});
export type Owner = z.infer<typeof owner>;

const portKey = z.strictObject({
  /** Of the network, as the way in calls it; empty for this host's own. */
  namespace: z.string().max(64),
  protocol: z.enum(["tcp", "udp"]),
  port: z.int().min(1024).max(65_535),
});
export type PortKey = z.infer<typeof portKey>;

/** What is kept on disk. */
export const idealStateSchema = z.strictObject({
  version: z.literal(1),
  /** Marks this host's mappings in the gateway's list, so that forgotten ones are known again. */
  tag: z.string().regex(/^[0-9a-f]{8}$/),
  /** Of PCP's nonces, in base64. */
  nonceKey: z.string().regex(/^[A-Za-z0-9+/]{43}=$/),
  ports: z.array(portKey.extend({ owners: z.array(owner) })),
});
export type StoredState = z.infer<typeof idealStateSchema>;

/** The ports that ought to be mapped, with a reference for each socket on them. Pure. */
export class IdealState {
  readonly tag: string;
  readonly nonceKey: Buffer;
  readonly #ports = new Map<string, { key: PortKey; owners: Map<string, Owner> }>();
  readonly #bySocket = new Map<string, PortKey>();
  readonly #byUser = new Map<number, number>();

  constructor(stored?: StoredState) {
    this.tag = stored?.tag ?? randomBytes(4).toString("hex");
    this.nonceKey = stored ? Buffer.from(stored.nonceKey, "base64") : randomBytes(32);
    for (const { owners, ...key } of stored?.ports ?? []) {
      this.#ports.set(nameOf(key), { key, owners: new Map() });
      for (const one of owners) this.add(key, one);
    }
  }

  /** Ports that nobody holds any more are among them until {@link forget}: their mappings may still be there. */
  get ports(): { key: PortKey; owners: Owner[] }[] {
    return [...this.#ports.values()].map(({ key, owners }) => ({ key, owners: [...owners.values()] }));
  }

  owners(key: PortKey): Owner[] {
    return [...(this.#ports.get(nameOf(key))?.owners.values() ?? [])];
  }

  holds(key: PortKey, socket: string): boolean {
    return this.#ports.get(nameOf(key))?.owners.has(socket) ?? false;
  }

  /** How many sockets of a user hold ports. */
  count(uid: number): number {
    return this.#byUser.get(uid) ?? 0;
  }

  /** A socket is bound once; seen again, it is where it was seen last. */
  add(key: PortKey, one: Owner): void {
    const socketName = `${key.namespace} ${one.socket}`;
    this.remove(key.namespace, one.socket);
    const name = nameOf(key);
    const entry = this.#ports.get(name) ?? { key, owners: new Map<string, Owner>() };
    entry.owners.set(one.socket, one);
    this.#ports.set(name, entry);
    this.#bySocket.set(socketName, key);
    this.#byUser.set(one.uid, this.count(one.uid) + 1);
  }

  /** The port that the socket was on, if it was known. */
  remove(namespace: string, socket: string): PortKey | undefined {
    const socketName = `${namespace} ${socket}`;
    const key = this.#bySocket.get(socketName);
    if (!key) return undefined;
    this.#bySocket.delete(socketName);
    const owners = this.#ports.get(nameOf(key))?.owners;
    const uid = owners?.get(socket)?.uid;
    owners?.delete(socket);
    if (uid !== undefined) {
      const left = this.count(uid) - 1;
      if (left > 0) this.#byUser.set(uid, left);
      else this.#byUser.delete(uid);
    }
    return key;
  }

  /** The port's mapping is certainly gone, and nobody wants it. */
  forget(key: PortKey): void {
    const entry = this.#ports.get(nameOf(key));
    if (entry?.owners.size === 0) this.#ports.delete(nameOf(key));
  }

  toStored(): StoredState {
    return {
      version: 1,
      tag: this.tag,
      nonceKey: this.nonceKey.toString("base64"),
      ports: this.ports.map(({ key, owners }) => ({ ...key, owners })),
    };
  }
}

export function nameOf({ namespace, protocol, port }: PortKey): string {
  return `${namespace} ${protocol} ${port}`;
}

import { randomBytes } from "node:crypto";
import { type AllocationOffer, type Cell, type IstAddress, IsthmusError, istDaemon } from "@isthmus/protocol";
import { createIdentity, type Identity } from "@isthmus/service";
import type { Session } from "@isthmus/session";
import { serveSessions } from "./session-server.ts";

type DaemonSession = Session<typeof istDaemon, undefined>;

const CELLS: Cell[] = [
  { cell: 0, port: 20_000 },
  { cell: 1, port: 20_001 },
];
const LIMITS = { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: 3500 };

/** An IST as a test wants it, over the real wire: sessions alone, there is nothing to meet at. */
export class ScriptedIst {
  readonly identity: Identity;
  readonly asked: string[] = [];
  /** Of each join, whether the daemon's NAT keeps ports. */
  readonly keepsPorts: boolean[] = [];
  /** What comes of a `join`. */
  onJoin: (allocation: string) => Promise<void> | void = () => undefined;
  #address = "";
  #session: DaemonSession | undefined;

  /** @param identity of one that is now reached at another address */
  static async start(identity = createIdentity()): Promise<ScriptedIst> {
    const ist = new ScriptedIst(identity);
    const log = (type: string, allocation: string) => void ist.asked.push(`${type} ${allocation}`);
    ist.#address = await serveSessions<typeof istDaemon>(ist.identity, {
      role: "ist",
      protocol: istDaemon,
      handlers: {
        requests: {
          join: async (_session, { allocation, keepsPorts }) => {
            log("join", allocation);
            ist.keepsPorts.push(keepsPorts);
            await ist.onJoin(allocation);
            return { side: 0, cells: CELLS, peerJoined: true, limits: LIMITS };
          },
          leave: (_session, { allocation }) => {
            log("leave", allocation);
            return {};
          },
          grow: () => {
            throw new IsthmusError("cell-limit");
          },
          shrink: () => ({}),
        },
        events: {},
      },
      onOpen: (session) => {
        ist.#session = session;
      },
    });
    return ist;
  }

  private constructor(identity: Identity) {
    this.identity = identity;
  }

  get session(): DaemonSession {
    return this.#session!;
  }

  get address(): IstAddress {
    return { key: this.identity.publicKey, name: "ist", addresses: [this.#address], secure: false };
  }

  offer(allocation = randomBytes(8).toString("hex")): AllocationOffer {
    return {
      ist: this.address,
      allocation,
      side: 0,
      ticket: randomBytes(16).toString("base64url"),
      token: randomBytes(32).toString("base64url"),
    };
  }
}

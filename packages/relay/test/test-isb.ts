import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import {
  type AllocationLimits,
  type AllocationOffer,
  type Code,
  type EventBody,
  fingerprintOf,
  type IstAddress,
  isbIst,
  type RequestBody,
  sidesOf,
} from "@isthmus/protocol";
import { createIdentity, type Identity, silentLogger } from "@isthmus/service";
import { type LoginAttempt, type Session, SessionGate, SessionServer } from "@isthmus/session";
import { onTestFinished } from "vitest";
import { Inbox } from "./inbox.ts";

type ToServer = (typeof isbIst)["toServer"];
type IstSession = Session<typeof isbIst, undefined>;

export const NO_LIMITS: AllocationLimits = {
  splices: 0,
  idleMs: 0,
  totalMs: 0,
  bytes: 0,
  bytesPerSecond: 0,
  halfMs: 3500,
};

/** The ISB's side of a session to an IST, over the real gate and the real schemas. */
export class TestIsb {
  readonly identity: Identity;
  readonly port: number;
  readonly logins = new Inbox<LoginAttempt>();
  readonly declared = new Inbox<RequestBody<ToServer, "declare">>();
  readonly held = new Inbox<EventBody<ToServer, "hold">>();
  readonly loads = new Inbox<EventBody<ToServer, "load">>();
  readonly released = new Inbox<EventBody<ToServer, "released">>();
  /** IST keys that need no invite. */
  readonly known = new Set<string>();
  #session: IstSession | undefined;
  #address: IstAddress | undefined;
  readonly #close: () => Promise<void>;

  /** @param options.invite the token that registers an IST; without it everybody is let in */
  static async start(options: { identity?: Identity; port?: number; invite?: string } = {}): Promise<TestIsb> {
    const http = createServer();
    http.listen(options.port ?? 0, "127.0.0.1");
    await once(http, "listening");
    const isb = new TestIsb(http, options.identity ?? createIdentity(), options.invite);
    onTestFinished(() => isb.close());
    return isb;
  }

  private constructor(http: ReturnType<typeof createServer>, identity: Identity, invite: string | undefined) {
    this.identity = identity;
    this.port = (http.address() as AddressInfo).port;
    const server = new SessionServer<typeof isbIst, undefined>({
      protocol: isbIst,
      clientRole: "ist",
      heartbeatMs: 20_000,
      authorize: (attempt) => {
        this.logins.add(attempt);
        if (invite !== undefined && attempt.invite === invite) this.known.add(attempt.key);
        if (invite !== undefined && !this.known.has(attempt.key)) throw new Error("unknown IST");
        return { context: undefined };
      },
      handlers: {
        requests: {
          declare: (_session, body) => {
            this.#address = body.address;
            this.declared.add(body);
            return {};
          },
        },
        events: {
          hold: (_session, body) => this.held.add(body),
          load: (_session, body) => this.loads.add(body),
          released: (_session, body) => this.released.add(body),
        },
      },
      onOpen: (session) => {
        this.#session = session;
      },
    });
    const gate = new SessionGate({
      role: "isb",
      identity,
      isOwnOrigin: (origin) => origin === `ws://127.0.0.1:${this.port}`,
      connectRate: { perSecond: 1000, burst: 1000 },
      maxSessions: 100,
      servers: [server],
      logger: silentLogger(),
    });
    http.on("upgrade", gate.handleUpgrade);
    let closing: Promise<void> | undefined;
    this.#close = () => {
      closing ??= (async () => {
        const closed = once(http, "close");
        http.close();
        await gate.close();
        http.closeAllConnections();
        await closed;
      })();
      return closing;
    };
  }

  close(): Promise<void> {
    return this.#close();
  }

  get fingerprint(): string {
    return fingerprintOf(this.identity.publicKey);
  }

  get broker() {
    return { addresses: [`127.0.0.1:${this.port}`], fingerprint: this.fingerprint, secure: false };
  }

  /** The IST as it declared itself. */
  get ist(): IstAddress {
    return this.#address!;
  }

  /** Asks for an allocation; each side's offer. */
  async allocate(
    keyA: string,
    keyB: string,
    limits: Partial<AllocationLimits> = {},
  ): Promise<[AllocationOffer, AllocationOffer]> {
    const sides = sidesOf(keyA, keyB);
    const { allocation, shares } = await this.#session!.request("allocate", {
      sides,
      limits: { ...NO_LIMITS, ...limits },
    });
    return [
      { ist: this.ist, allocation, side: 0, ...shares[0] },
      { ist: this.ist, allocation, side: 1, ...shares[1] },
    ];
  }

  async release(allocation: string, code: Code = "released"): Promise<void> {
    await this.#session!.request("release", { allocation, code });
  }
}

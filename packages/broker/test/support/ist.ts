import { randomBytes } from "node:crypto";
import { type isbIst as IsbIst, IsthmusError, isbIst, type RequestBody } from "@isthmus/protocol";
import { createIdentity, type Identity, silentLogger } from "@isthmus/service";
import { BACKOFF_TO_IST, SessionClient } from "@isthmus/session";
import { onTestFinished, vi } from "vitest";
import type { ServerAddress } from "./daemon.ts";
import { EventLog } from "./event-log.ts";

type ToClient = (typeof IsbIst)["toClient"];
type Allocate = RequestBody<ToClient, "allocate">;

export interface IstOptions {
  identity?: Identity;
  invite?: string;
  name?: string;
  room?: number;
  /** What it holds from an earlier life. */
  living?: Map<string, Allocation>;
  /** Another key than its own. */
  declaredKey?: string;
}

interface Allocation {
  allocation: string;
  sides: [string, string];
  shares: [{ ticket: string; token: string }, { ticket: string; token: string }];
}

/** An IST as the broker sees one: one allocation for each pair, kept over reconnects. */
export class TestIst {
  readonly identity: Identity;
  readonly name: string;
  readonly client: SessionClient<typeof IsbIst>;
  readonly living: Map<string, Allocation>;
  readonly asked = new EventLog<Allocate>();
  readonly released = new EventLog<RequestBody<ToClient, "release">>();
  /** Awaited before an allocate is answered. */
  hold: Promise<void> | undefined;
  /** Refuses every allocate with this. */
  refusal: IsthmusError | undefined;
  room: number;

  constructor(server: ServerAddress, options: IstOptions) {
    this.identity = options.identity ?? createIdentity();
    this.name = options.name ?? "ist";
    this.living = options.living ?? new Map();
    this.room = options.room ?? 1000;
    this.client = new SessionClient<typeof IsbIst>({
      protocol: isbIst,
      identity: this.identity,
      role: "ist",
      serverRole: "isb",
      target: { origins: [server.origin], expect: { key: server.identity.publicKey } },
      boot: randomBytes(8).toString("hex"),
      ...(options.invite === undefined ? {} : { registration: () => ({ invite: options.invite!, device: this.name }) }),
      allowInsecure: true,
      backoff: BACKOFF_TO_IST,
      handlers: {
        requests: {
          allocate: async (_client, request) => {
            this.asked.push(request);
            await this.hold;
            if (this.refusal) throw this.refusal;
            return this.#allocate(request.sides);
          },
          release: (_client, request) => {
            this.released.push(request);
            for (const [pair, { allocation }] of this.living) {
              if (allocation === request.allocation) this.living.delete(pair);
            }
            return {};
          },
        },
        events: {},
      },
      onLogin: async () => {
        await this.client.request("declare", {
          address: {
            key: options.declaredKey ?? this.key,
            name: this.name,
            addresses: ["192.0.2.1:443"],
            secure: true,
          },
          dataPath: "userspace",
          room: { allocations: this.room },
        });
        const allocations = [...this.living.values()].map(({ allocation, sides }) => ({ allocation, sides }));
        this.client.event("hold", { allocations, last: true });
      },
      logger: silentLogger(),
    });
  }

  get key(): string {
    return this.identity.publicKey;
  }

  load(changes: { allocations?: number; room?: number; draining?: boolean }): void {
    this.client.event("load", {
      allocations: this.living.size,
      splices: 0,
      bytesPerSecond: 0,
      room: this.room,
      draining: false,
      ...changes,
    });
  }

  /** Ends an allocation by itself, as an IST does that nobody joins. */
  lose(allocation: string): void {
    for (const [pair, held] of this.living) if (held.allocation === allocation) this.living.delete(pair);
    this.client.event("released", { allocation, code: "not-joined" });
  }

  #allocate(sides: [string, string]) {
    const pair = sides.join(" ");
    let held = this.living.get(pair);
    if (!held) {
      if (this.living.size >= this.room) throw new IsthmusError("ist-full");
      const share = () => ({
        ticket: randomBytes(16).toString("base64url"),
        token: randomBytes(32).toString("base64url"),
      });
      held = { allocation: randomBytes(8).toString("hex"), sides, shares: [share(), share()] };
      this.living.set(pair, held);
    }
    return { allocation: held.allocation, shares: held.shares };
  }
}

/** An IST that is logged in and ready. It is stopped when the test has finished. */
export async function startIst(server: ServerAddress, options: IstOptions): Promise<TestIst> {
  const ist = new TestIst(server, options);
  onTestFinished(() => ist.client.stop());
  ist.client.start();
  await ist.client.whenUp(AbortSignal.timeout(10_000));
  return ist;
}

/** Why an IST does not get in. */
export async function refusal(server: ServerAddress, options: IstOptions): Promise<string> {
  const ist = new TestIst(server, options);
  ist.client.start();
  try {
    const isOver = () => ist.client.lastError?.code ?? (ist.client.state === "up" && "let in");
    return await vi.waitUntil(isOver, { timeout: 10_000, interval: 5 });
  } finally {
    await ist.client.stop();
  }
}

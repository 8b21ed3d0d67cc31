import { type AllocationLimits, type Code, type IstAddress, IsthmusError, type isbIst } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import type { Handlers, Session } from "@isthmus/session";
import { chooseIst, type IstCandidate } from "./choice.ts";
import { Holdings } from "./holdings.ts";

export type IstSession = Session<typeof isbIst, undefined>;

/** An allocate that an IST did not answer in this time is tried at another one. */
const ALLOCATE_TIMEOUT_MS = 2500;
/** What is remembered of an IST that does not come back: by then it has ended what daemons no longer use. */
const FORGET_MS = 10 * 60_000;

/** One IST that is logged in, or was a moment ago. */
interface Ist extends IstCandidate {
  session: IstSession | undefined;
  /** It has declared itself over this session. */
  ready: boolean;
  /** As it declared itself last. */
  address: IstAddress | undefined;
  dataPath: string;
  splices: number;
  bytesPerSecond: number;
  downSince: number | undefined;
}

/** An IST that is ready, as people see it. */
export interface IstLoad
  extends Pick<Ist, "dataPath" | "draining" | "allocations" | "room" | "splices" | "bytesPerSecond"> {
  addresses: string[];
}

/** An allocation as the IST gave it: what each side shows there. */
export interface Allocated {
  ist: string;
  allocation: string;
  shares: [{ ticket: string; token: string }, { ticket: string; token: string }];
}

/** The ISTs that are logged in, their load, and which pair of devices holds an allocation where. */
export class IstRegistry {
  readonly #ists = new Map<string, Ist>();
  readonly #holdings: Holdings;
  readonly #logger: Logger;

  /** @param lost an IST no longer holds an allocation of a pair */
  constructor(options: { lost: (pair: string, ist: string, allocation: string) => void; logger: Logger }) {
    this.#holdings = new Holdings(options.lost);
    this.#logger = options.logger;
  }

  readonly handlers: Handlers<(typeof isbIst)["toServer"], IstSession> = {
    requests: {
      declare: (session, { address, dataPath, room }) => {
        if (address.key !== session.key) throw new IsthmusError("bad-request", "the IST declares another key");
        const ist = this.#ists.get(session.key);
        if (ist?.session !== session) throw new IsthmusError("superseded");
        Object.assign(ist, { ready: true, address, dataPath, room: room.allocations, draining: false });
        this.#holdings.beginReport(session.key);
        this.#logger.info({ ist: address.name, dataPath, room: room.allocations }, "an IST is ready");
        return {};
      },
    },
    events: {
      hold: (session, { allocations, last }) => {
        for (const { allocation, sides } of allocations) {
          this.#holdings.report(session.key, allocation, sides.join(" "));
        }
        if (!last) return;
        for (const allocation of this.#holdings.endReport(session.key)) this.#release(session, allocation, "released");
      },
      load: (session, load) => {
        const ist = this.#ists.get(session.key);
        if (ist?.session === session) Object.assign(ist, load);
      },
      released: (session, { allocation }) => this.#holdings.remove(session.key, allocation),
    },
  };

  opened(session: IstSession): void {
    const known = this.#ists.get(session.key);
    const unknown = { address: undefined, dataPath: "", allocations: 0, room: 0, splices: 0, bytesPerSecond: 0 };
    const opened = { key: session.key, session, ready: false, draining: false, downSince: undefined };
    this.#ists.set(session.key, { ...unknown, ...known, ...opened });
  }

  closed(session: IstSession, now: number): void {
    const ist = this.#ists.get(session.key);
    if (ist?.session !== session) return;
    ist.session = undefined;
    ist.downSince = now;
  }

  sweep(now: number): void {
    for (const [key, { downSince }] of this.#ists) {
      if (downSince === undefined || now - downSince < FORGET_MS) continue;
      this.#ists.delete(key);
      this.#holdings.forget(key);
    }
  }

  get allocations(): number {
    return this.#holdings.size;
  }

  /** For people. */
  describe(key: string): IstLoad | undefined {
    const ist = this.#ists.get(key);
    if (!ist || !this.isReady(key)) return undefined;
    const { dataPath, draining, allocations, room, splices, bytesPerSecond } = ist;
    return { addresses: ist.address!.addresses, dataPath, draining, allocations, room, splices, bytesPerSecond };
  }

  /** Whether it is logged in, or was a moment ago. */
  knows(key: string): boolean {
    return this.#ists.has(key);
  }

  address(key: string): IstAddress | undefined {
    return this.#ists.get(key)?.address;
  }

  /** Whether allocations can be asked for there. */
  isReady(key: string): boolean {
    const ist = this.#ists.get(key);
    return ist?.session !== undefined && ist.ready;
  }

  /** The IST where a pair holds an allocation already, if any is ready. */
  holderOf(pair: string, avoid: ReadonlySet<string>): string | undefined {
    return this.#holdings.of(pair).find(({ ist }) => this.isReady(ist) && !avoid.has(ist))?.ist;
  }

  choose(avoid: ReadonlySet<string>): string | undefined {
    return chooseIst(this.#ready(), avoid)?.key;
  }

  *#ready(): Generator<Ist> {
    for (const ist of this.#ists.values()) if (this.isReady(ist.key)) yield ist;
  }

  /** @throws IsthmusError `no-ist` when it is not there, else what the IST answered, `timeout`, `disconnected` */
  async allocate(key: string, sides: [string, string], limits: AllocationLimits): Promise<Allocated> {
    const ist = this.#ists.get(key);
    if (!ist?.session) throw new IsthmusError("no-ist");
    const reply = await ist.session.request("allocate", { sides, limits }, { timeoutMs: ALLOCATE_TIMEOUT_MS });
    if (this.#holdings.add(key, reply.allocation, sides.join(" "))) {
      // Until the IST's next report.
      ist.allocations++;
      ist.room = Math.max(0, ist.room - 1);
    }
    return { ist: key, ...reply };
  }

  /** Ends all allocations of a pair, wherever; at an IST that is away as soon as it is back. */
  releaseAll(pair: string, code: Code): void {
    for (const { ist, allocation } of [...this.#holdings.of(pair)]) {
      const session = this.#ists.get(ist)?.session;
      if (session) this.#release(session, allocation, code);
      else this.#holdings.owe(ist, allocation);
    }
  }

  #release(session: IstSession, allocation: string, code: Code): void {
    this.#holdings.remove(session.key, allocation);
    // Until it is answered: whether it arrived before a session's end, the next report tells.
    this.#holdings.owe(session.key, allocation);
    session.request("release", { allocation, code }).then(
      () => this.#holdings.paid(session.key, allocation),
      (error: IsthmusError) => {
        this.#logger.debug({ ist: session.key, allocation, code: error.code }, "a release was not confirmed");
        if (error.code !== "disconnected" && error.code !== "timeout") this.#holdings.paid(session.key, allocation);
      },
    );
  }
}

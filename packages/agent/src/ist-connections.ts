import type { IstMeeting, Link } from "@isthmus/link";
import {
  ALLOCATION_PREFIX_BYTES,
  addressedFrame,
  type Cell,
  type Code,
  fingerprintOf,
  type IstAddress,
  type IsthmusError,
  istDaemon,
  parseOrigin,
  toIsthmusError,
} from "@isthmus/protocol";
import type { Identity, Logger } from "@isthmus/service";
import { BACKOFF_TO_IST, SessionClient } from "@isthmus/session";

/** An IST that is away this long: another one is asked for, while this one is still tried. */
const AWAY_MS = 700;
/** How often another IST is asked for. */
const ASK_AGAIN_MS = 800;
/** An allocation that could not be joined is tried again after this. */
const JOIN_RETRY_MS = 1000;
/** An allocation that nothing meets at any more is left after this: what is ending may still be on its way. */
const LEAVE_AFTER_MS = 30_000;

type IstSession = SessionClient<typeof istDaemon>;

export interface IstWorld {
  identity: () => Identity;
  boot: string;
  allowInsecure: boolean;
  /** The allocation is gone, or its IST is away: another one is needed. */
  replace(link: Link, ist: string): void;
  logger: Logger;
}

interface Membership {
  link: Link;
  meeting: IstMeeting;
  unusedSince?: number | undefined;
  /** What the IST said since the join was asked for. It is newer than the answer, which may come behind it. */
  said?: { cells?: readonly Cell[]; peerJoined?: boolean };
}

/** The session to one IST, and the allocations that this side has there. */
class IstConnection {
  readonly address: IstAddress;
  readonly session: IstSession;
  readonly members = new Map<string, Membership>();
  readonly #world: IstWorld;
  readonly #logger: Logger;
  #away: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(address: IstAddress, world: IstWorld) {
    this.address = address;
    this.#world = world;
    this.#logger = world.logger.child({ ist: address.name });
    this.session = new SessionClient({
      protocol: istDaemon,
      identity: world.identity(),
      role: "daemon",
      serverRole: "ist",
      target: {
        origins: address.addresses.map((hostPort) => `${address.secure ? "wss" : "ws"}://${hostPort}`),
        expect: { key: address.key },
        ...(address.certificate === undefined ? {} : { certificate: address.certificate }),
      },
      boot: world.boot,
      // An ISB that names a plain IST was configured so by its operator, for its own network.
      allowInsecure: world.allowInsecure,
      backoff: BACKOFF_TO_IST,
      handlers: {
        requests: {
          cells: (_session, { allocation, cells }) => {
            const member = this.members.get(allocation);
            if (!member) return {};
            member.said = { ...member.said, cells };
            member.meeting.updateCells(cells);
            member.link.meetingReady();
            return {};
          },
        },
        events: {
          peer: (_session, { allocation, joined }) => {
            const member = this.members.get(allocation);
            if (!member) return;
            member.said = { ...member.said, peerJoined: joined };
            member.meeting.peerJoined = joined;
            if (joined) member.link.meetingReady();
          },
          half: (_session, { allocation, cell, port }) => this.members.get(allocation)?.meeting.half(cell, port),
          released: (_session, { allocation, code }) => this.#released(allocation, code),
        },
        binary: (_session, frame) => {
          const allocation = frame.toString("hex", 0, ALLOCATION_PREFIX_BYTES);
          this.members.get(allocation)?.link.receiveControl(frame.subarray(ALLOCATION_PREFIX_BYTES), "ist");
        },
      },
      hooks: {
        internalError: (_session, type, error) =>
          this.#logger.error({ err: error, type }, "a message could not be handled"),
      },
      onUp: () => {
        clearTimeout(this.#away);
        for (const member of this.members.values()) void this.#join(member);
      },
      onDown: () => {
        if (this.#stopped) return;
        for (const { meeting } of this.members.values()) meeting.setLeft();
        this.#whileAway();
      },
      logger: this.#logger,
    });
    this.session.start();
    this.#whileAway();
  }

  add(member: Membership): void {
    this.members.set(member.meeting.offer.allocation, member);
    void this.#join(member);
  }

  send(meeting: IstMeeting, frame: Buffer): boolean {
    return meeting.joined && this.session.binary(addressedFrame(Buffer.from(meeting.offer.allocation, "hex"), frame));
  }

  /** Its allocations are somebody else's business from now on, also those whose joining is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#away);
    for (const { meeting } of this.members.values()) meeting.setLeft();
    this.members.clear();
    await this.session.stop();
  }

  /** Gives up what nothing of its link meets at any more. @param used allocations that are needed */
  tidy(used: ReadonlySet<string>, now: number): void {
    for (const [allocation, member] of this.members) {
      if (used.has(allocation)) member.unusedSince = undefined;
      else if (member.unusedSince === undefined) member.unusedSince = now;
      else if (now - member.unusedSince >= LEAVE_AFTER_MS) {
        this.members.delete(allocation);
        void this.session.request("leave", { allocation }).catch(() => undefined);
      }
    }
  }

  async #join(member: Membership): Promise<void> {
    const { meeting, link } = member;
    const { allocation, ticket } = meeting.offer;
    if (this.members.get(allocation) !== member || this.session.state !== "up") return;
    member.said = {};
    try {
      const keepsPorts = this.session.login?.keptPort ?? false;
      const reply = await this.session.request("join", { allocation, ticket, keepsPorts });
      if (this.members.get(allocation) !== member) return;
      const { cells, peerJoined } = { ...reply, ...member.said };
      meeting.setJoined(parseOrigin(this.session.origin)!, cells, reply.limits, {
        grow: (cells, pure) => this.#grow(member, cells, pure),
        shrink: (cells) => this.#shrink(member, cells),
      });
      meeting.peerJoined = peerJoined;
      link.rttMs = this.session.rttMs === undefined ? undefined : 2 * this.session.rttMs;
      this.#logger.info({ allocation, cells }, "allocation joined");
      link.meetingReady();
    } catch (error) {
      const { code } = toIsthmusError(error);
      this.#logger.info({ allocation, code }, "the allocation could not be joined");
      if (code === "unknown-allocation" || code === "bad-ticket") this.#released(allocation, code);
      else if (code !== "disconnected" && this.members.get(allocation) === member) {
        setTimeout(() => void this.#join(member), JOIN_RETRY_MS).unref();
      }
    }
  }

  async #grow({ meeting, link }: Membership, cells: number, pure: boolean): Promise<void> {
    try {
      const { allocation } = meeting.offer;
      const reply = await this.session.request("grow", { allocation, cells, pure });
      meeting.updateCells(reply.cells);
      link.meetingReady();
    } catch (error) {
      this.#logger.debug({ code: toIsthmusError(error).code }, "no further cells");
    }
  }

  async #shrink(member: Membership, cells: number[]): Promise<void> {
    await this.session
      .request("shrink", { allocation: member.meeting.offer.allocation, cells })
      .catch((error: IsthmusError) => this.#logger.debug({ code: error.code }, "cells were not given back"));
  }

  #released(allocation: string, code: Code): void {
    const member = this.members.get(allocation);
    if (!member) return;
    this.members.delete(allocation);
    this.#logger.info({ allocation, code }, "allocation released");
    if (member.link.ist?.offer.allocation !== allocation) return;
    member.link.dropAllocation();
    this.#world.replace(member.link, this.address.key);
  }

  /** While the session is down, another IST is asked for again and again; whoever is there first is used. */
  #whileAway(): void {
    clearTimeout(this.#away);
    this.#away = setTimeout(() => {
      if (this.session.state === "up") return;
      for (const { link, meeting } of this.members.values()) {
        if (link.ist === meeting) this.#world.replace(link, this.address.key);
      }
      this.#away = setTimeout(() => this.#whileAway(), ASK_AGAIN_MS - AWAY_MS + Math.random() * AWAY_MS);
    }, AWAY_MS);
  }
}

/** The sessions to all ISTs that this daemon's links use. */
export class IstConnections {
  readonly #world: IstWorld;
  readonly #connections = new Map<string, IstConnection>();

  constructor(world: IstWorld) {
    this.#world = world;
  }

  /** The link meets its peer at this allocation from now on. */
  use(link: Link, meeting: IstMeeting): void {
    const { ist, allocation } = meeting.offer;
    let connection = this.#connections.get(ist.key);
    if (connection?.members.get(allocation)?.meeting === meeting) return;
    // The same IST under other addresses is dialled anew.
    if (!connection || JSON.stringify(connection.address) !== JSON.stringify(ist)) {
      const members = [...(connection?.members.values() ?? [])];
      void connection?.stop();
      connection = new IstConnection(ist, this.#world);
      this.#connections.set(ist.key, connection);
      for (const member of members) connection.add(member);
    }
    connection.add({ link, meeting });
  }

  send(link: Link, frame: Buffer): boolean {
    const { ist } = link;
    return ist !== undefined && (this.#connections.get(ist.offer.ist.key)?.send(ist, frame) ?? false);
  }

  /** Leaves allocations that nothing uses any more, and sessions without allocations; to be called now and then. */
  tidy(links: readonly Link[], now: number): void {
    const used = new Set(links.flatMap((link) => [...link.allocations]));
    for (const [key, connection] of this.#connections) {
      connection.tidy(used, now);
      if (connection.members.size > 0) continue;
      this.#connections.delete(key);
      void connection.stop();
    }
  }

  /** Asks the IST of a link for a sign of life. */
  check(link: Link): void {
    const key = link.ist?.offer.ist.key;
    const session = key === undefined ? undefined : this.#connections.get(key)?.session;
    void session?.check();
  }

  report() {
    return [...this.#connections.values()].map(({ address, session }) => ({
      name: address.name,
      fingerprint: fingerprintOf(address.key),
      ...sessionReportOf(session),
    }));
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#connections.values()].map((connection) => connection.stop()));
    this.#connections.clear();
  }
}

/** The state of a session as `status` shows it. */
export function sessionReportOf(
  session: Pick<IstSession, "origin" | "state" | "since" | "rttMs" | "login" | "lastError">,
) {
  const { origin, state, since, rttMs, login, lastError } = session;
  return {
    origin,
    state,
    since: since.toISOString(),
    ...(rttMs === undefined ? {} : { rttMs: Math.round(rttMs * 100) / 100 }),
    ...(login && state === "up" ? { observed: login.reply.observed } : {}),
    ...(lastError && state !== "up" ? { code: lastError.code, message: lastError.message } : {}),
  };
}

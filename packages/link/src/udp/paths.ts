import {
  type Code,
  IsthmusError,
  type LinkControlBody,
  type LinkControlMessage,
  type Rendezvous,
  toIsthmusError,
} from "@isthmus/protocol";
import type { Generation } from "../keys/generation.ts";
import type { IdWindow } from "../open/id-window.ts";
import { type DatagramCarrier, type ReceivedDatagram, UdpPath } from "./path.ts";

/** A path that carries nothing is closed after this, and its cell with it. */
const PATH_IDLE_MS = 120_000;
/** A path whose place a better one has taken still hears this long: datagrams are under way on it. */
const LEAVING_MS = 2000;
/** Datagrams on a stream are the last resort: a real path is tried again this often. */
const RETRY_DATAGRAM_PATH_MS = 30_000;
/** A path that is not proved after this gets a stream beside it: perhaps nothing else passes here. */
const STREAM_AFTER_MS = 1500;
/** Waiting time before a path is looked for again when there was no place to meet, or one came to nothing. */
const NO_PLACE_RETRY_MS = 250;
/** The Noise responder asks for a path this often. */
const ASK_AGAIN_MS = 1000;
/** The peer is told of a path that is not proved this often: it may not have been there to hear it. */
const TELL_AGAIN_MS = 1000;
/** How long one asking of the responder counts. */
const WANTED_FOR_MS = 2000;
const MOST_PATHS = 8;

export interface CarrierEvents {
  datagram(datagram: Buffer): void;
  ready(): void;
  closed(): void;
}

/** What the paths of one generation ask of their link. */
export interface PathsWorld {
  readonly generation: Generation;
  readonly peerOpens: IdWindow;
  nextOpenId(): number;
  tell(message: LinkControlMessage): void;
  /** The allocation at which paths shall meet, if there is one. */
  readonly allocation: string | undefined;
  /** A place for a path, or nothing at the moment. @param onStream cells and direct paths come to nothing */
  choose(onStream: boolean): Rendezvous | undefined;
  /** The path is closed: its cell is free, or soon. */
  settled(rendezvous: Rendezvous, failed: boolean): void;
  /**
   * @returns what carries the path; nothing where the peer dials and is yet to be heard of
   * @throws IsthmusError `unsupported-rendezvous`, `unknown-allocation`
   */
  carry(path: UdpPath, rendezvous: Rendezvous, events: CarrierEvents): DatagramCarrier | undefined;
  count(event: "datagram-forged" | "repeated-open"): void;
}

/** What happens on paths, for the flows that use them. */
export interface PathEvents {
  received(path: UdpPath, datagram: ReceivedDatagram, now: number): void;
  /** A path is proved. */
  up(path: UdpPath, now: number): void;
  /** Something is due: {@link UdpPaths.tick}. */
  due(): void;
}

/**
 * The UDP paths of one generation: one at a time carries all flows. The Noise initiator opens them, the other side asks
 * for one. A better one is looked for beside the one in use; flows move when it is proved.
 */
export class UdpPaths {
  readonly #world: PathsWorld;
  readonly #events: PathEvents;
  readonly #paths = new Map<number, UdpPath>();
  #nextTry = 0;
  #nextUpgrade = 0;
  #wantedUntil = 0;
  #isClosed = false;

  constructor(world: PathsWorld, events: PathEvents) {
    this.#world = world;
    this.#events = events;
  }

  /** The path that datagrams take: the newest that is up, a stream only where there is nothing else. */
  get best(): UdpPath | undefined {
    let best: UdpPath | undefined;
    for (const path of this.#paths.values()) {
      if (path.health.state !== "up" || path.leavesAt !== undefined) continue;
      if (!best || isStream(best) || !isStream(path)) best = path;
    }
    return best;
  }

  get size(): number {
    return this.#paths.size;
  }

  /** Allocations at which paths meet. */
  get allocations(): string[] {
    return [...this.#paths.values()].flatMap(({ rendezvous }) =>
      rendezvous.at === "direct" ? [] : [rendezvous.allocation],
    );
  }

  close(): void {
    this.#isClosed = true;
    for (const path of this.#paths.values()) path.close();
    this.#paths.clear();
  }

  /** There is a place to meet, and the peer is there: what it was told before it may not have heard. */
  meetingReady(now: number): void {
    const probing = [...this.#paths.values()].filter(({ health }) => health.state === "probing");
    for (const path of probing.filter((one) => this.#isOurs(one))) {
      if (this.#isElsewhere(path)) this.#end(path, { failed: true, tellPeer: true });
      else path.tellAt = now;
    }
    const { best } = this;
    if (best && this.#isElsewhere(best)) this.#nextUpgrade = now;
    this.#nextTry = now;
    this.#events.due();
  }

  // Control messages of the peer

  openByPeer(message: LinkControlBody<"open">, now: number): void {
    const { id, attempt, rendezvous } = message;
    if (this.#paths.has(id)) return;
    const refuse = (code: Code): void => this.#world.tell({ t: "refused", id, attempt, code });
    if (id % 2 === this.#world.generation.role || !this.#world.peerOpens.take(id)) {
      this.#world.count("repeated-open");
      refuse("repeated-open");
      return;
    }
    try {
      this.#add(id, rendezvous, now);
    } catch (error) {
      refuse(toIsthmusError(error).code);
    }
    this.#events.due();
  }

  /** The peer cannot meet at the path's rendezvous, or has closed a path that it opened. */
  endedByPeer(id: number): void {
    const path = this.#paths.get(id);
    if (path) this.#end(path, { failed: !path.wasUp, tellPeer: false });
  }

  /** The peer has datagrams to send. */
  wanted(now: number): void {
    if (this.#world.generation.role !== 0 || this.best || this.#isProbing()) return;
    this.#wantedUntil = now + WANTED_FOR_MS;
    this.#events.due();
  }

  /**
   * A direct path's source address is known now: the dialler's leg header came from there. The first one counts; a
   * repeated header from elsewhere changes nothing.
   */
  bindCarrier(id: number, carrier: (events: CarrierEvents) => DatagramCarrier): boolean {
    const path = this.#paths.get(id);
    if (path?.rendezvous.at !== "direct" || path.carrier) return false;
    const events = this.#eventsOf(path);
    path.carrier = carrier(events);
    events.ready();
    return true;
  }

  // Time

  /**
   * Does what is due.
   * @param use since when nothing was sent or received, and whether datagrams wait for a path
   */
  tick(now: number, use: { lastUsed: number; isWanted: boolean }): void {
    for (const path of [...this.#paths.values()]) {
      if (path.leavesAt === undefined) path.tick(now);
      if (path.health.state === "probing" && path.tellAt !== undefined && now >= path.tellAt) this.#tell(path, now);
      if (path.health.state === "dead") this.#end(path, { failed: true, tellPeer: true });
      else if (path.leavesAt !== undefined && now >= path.leavesAt) this.#end(path, { failed: false, tellPeer: true });
      // The other side waits to be told: it might send at this very moment.
      else if (this.#isOurs(path) && now - use.lastUsed > PATH_IDLE_MS)
        this.#end(path, { failed: false, tellPeer: true });
    }
    this.#lookForPath(now, use.isWanted);
  }

  /** When {@link tick} has something to do. */
  wakeAt(now: number, isWanted: boolean): number {
    let at = Number.POSITIVE_INFINITY;
    for (const { leavesAt, tellAt, health } of this.#paths.values()) {
      at = Math.min(at, leavesAt ?? health.wakeAt ?? 0);
      if (health.state === "probing") at = Math.min(at, tellAt ?? at);
    }
    const isLooking = (isWanted || now < this.#wantedUntil) && !this.best && !this.#isProbing();
    return isLooking ? Math.min(at, this.#nextTry) : at;
  }

  #lookForPath(now: number, isWanted: boolean): void {
    const { best } = this;
    if (this.#isClosed || now < this.#nextTry) return;
    if (this.#isProbing()) {
      if (!best && this.#needsStream(now)) this.#open(now, { onStream: true });
      return;
    }
    const isNeeded = best
      ? (isStream(best) || this.#isElsewhere(best)) && now >= this.#nextUpgrade
      : isWanted || now < this.#wantedUntil;
    if (!isNeeded) return;
    if (this.#world.generation.role === 0) {
      if (best) this.#nextUpgrade = now + RETRY_DATAGRAM_PATH_MS;
      this.#open(now, { onStream: false });
    } else if (!best) {
      this.#nextTry = now + ASK_AGAIN_MS;
      this.#world.tell({ t: "udpWanted" });
    }
  }

  #open(now: number, { onStream }: { onStream: boolean }): void {
    const rendezvous = this.#world.choose(onStream);
    if (!rendezvous || (onStream && rendezvous.at !== "stream")) {
      this.#nextTry = now + NO_PLACE_RETRY_MS;
      return;
    }
    const id = this.#world.nextOpenId();
    try {
      this.#tell(this.#add(id, rendezvous, now), now);
    } catch {
      this.#world.settled(rendezvous, true);
      this.#nextTry = now + NO_PLACE_RETRY_MS;
    }
  }

  #tell(path: UdpPath, now: number): void {
    const { id, rendezvous } = path;
    path.tellAt = now + TELL_AGAIN_MS;
    this.#world.tell({ t: "open", id, attempt: 0, proto: "udp", rendezvous, plain: false });
  }

  #add(id: number, rendezvous: Rendezvous, now: number): UdpPath {
    if (this.#paths.size >= MOST_PATHS) throw new IsthmusError("too-many-opens");
    const path = new UdpPath(this.#world.generation, id, rendezvous, now);
    path.carrier = this.#world.carry(path, rendezvous, this.#eventsOf(path));
    this.#paths.set(id, path);
    return path;
  }

  #eventsOf(path: UdpPath): CarrierEvents {
    return {
      datagram: (datagram) => this.#received(path, datagram),
      ready: () => {
        path.health.ready(performance.now());
        this.#events.due();
      },
      closed: () => {
        this.#end(path, { failed: true, tellPeer: true });
        this.#events.due();
      },
    };
  }

  #received(path: UdpPath, datagram: Buffer): void {
    if (this.#isClosed) return;
    const now = performance.now();
    const { wasUp, refused } = path;
    const received = path.receive(datagram, now);
    if (path.refused !== refused) this.#world.count("datagram-forged");
    else if (path.health.state === "probing") {
      path.health.heard(now);
      path.tick(now);
    }
    if (!wasUp && path.wasUp) this.#isUp(path, now);
    if (received) this.#events.received(path, received, now);
  }

  #isUp(path: UdpPath, now: number): void {
    this.#nextUpgrade = now + RETRY_DATAGRAM_PATH_MS;
    path.tick(now);
    this.#events.up(path, now);
    // Older paths are of no more use, unless this one is the last resort.
    if (!isStream(path)) {
      for (const older of this.#paths.values()) if (older.id < path.id) older.leavesAt ??= now + LEAVING_MS;
    }
    this.#events.due();
  }

  #end(path: UdpPath, { failed, tellPeer }: { failed: boolean; tellPeer: boolean }): void {
    if (!this.#paths.delete(path.id)) return;
    if (failed && !path.wasUp) this.#nextTry = performance.now() + NO_PLACE_RETRY_MS;
    path.close();
    // What this side opened is this side's to end, and its place to give back.
    if (!this.#isOurs(path)) return;
    if (tellPeer) this.#world.tell({ t: "cancel", id: path.id, attempt: 0 });
    this.#world.settled(path.rendezvous, failed);
  }

  #isOurs(path: UdpPath): boolean {
    return path.id % 2 === this.#world.generation.role;
  }

  /** Its IST was replaced: it may be gone. */
  #isElsewhere({ rendezvous }: UdpPath): boolean {
    const { allocation } = this.#world;
    return rendezvous.at !== "direct" && allocation !== undefined && rendezvous.allocation !== allocation;
  }

  /** Whether this side's try of a real path takes too long, and none on a stream is under way. */
  #needsStream(now: number): boolean {
    const tried = [...this.#paths.values()].filter(({ health }) => health.state === "probing");
    return !tried.some(isStream) && tried.some((path) => this.#isOurs(path) && now - path.since >= STREAM_AFTER_MS);
  }

  #isProbing(): boolean {
    return [...this.#paths.values()].some(({ health }) => health.state === "probing");
  }
}

function isStream(path: UdpPath): boolean {
  return path.rendezvous.at === "stream";
}

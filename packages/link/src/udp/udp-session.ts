import { createSocket } from "node:dgram";
import { isIP } from "node:net";
import {
  type Code,
  type HostPort,
  IsthmusError,
  LIMITS,
  type LinkControlBody,
  type LinkControlMessage,
  type Rendezvous,
  toIsthmusError,
} from "@isthmus/protocol";
import type { Generation } from "../keys/generation.ts";
import type { IdWindow } from "../open/id-window.ts";
import { EarlyQueue } from "./early-queue.ts";
import { FLOW_IDLE_MS, type FlowEndpoint, type FlowMeaning, UdpFlow } from "./flow.ts";
import { type DatagramCarrier, UdpPath } from "./path.ts";
import { Reassembly } from "./reassembly.ts";

/** Datagrams wait this long for a path: longer than it takes to try a second one. */
const WAIT_FOR_PATH_MS = 6000;
/** Datagrams wait this long for the control message that says what their flow is. */
const WAIT_FOR_FLOW_MS = 2000;
/** A path that carries nothing is closed after this, and its cell with it. */
const PATH_IDLE_MS = 120_000;
/** Datagrams on a stream are the last resort: a real path is tried again this often. */
const RETRY_DATAGRAM_PATH_MS = 30_000;
/** Paths that come to nothing before a stream is used. */
const FAILURES_BEFORE_STREAM = 2;
/** Waiting time before a path is looked for again when there was no place to meet. */
const NO_PLACE_RETRY_MS = 250;
/** The Noise responder asks for a path this often. */
const ASK_AGAIN_MS = 1000;
/** How long one asking of the responder counts. */
const WANTED_FOR_MS = 2000;
/** Flows of one peer under one generation; beyond it the longest unused goes. */
const MOST_FLOWS = 4096;
const MOST_PATHS = 8;
const IDLE_CHECK_MS = 30_000;

/** What the UDP of one generation asks of its link. */
export interface UdpWorld {
  readonly generation: Generation;
  readonly peerOpens: IdWindow;
  readonly peerFlows: IdWindow;
  nextOpenId(): number;
  nextFlowId(): number;
  tell(message: LinkControlMessage): void;
  /** A place for a path, or nothing at the moment. @param allowStream cells and direct paths came to nothing */
  choose(allowStream: boolean): Rendezvous | undefined;
  /** The path is closed: its cell is free, or soon. */
  settled(rendezvous: Rendezvous, failed: boolean): void;
  /**
   * @returns what carries the path; nothing where the peer dials and is yet to be heard of
   * @throws IsthmusError `unsupported-rendezvous`, `unknown-allocation`
   */
  carry(path: UdpPath, rendezvous: Rendezvous, events: CarrierEvents): DatagramCarrier | undefined;
  /** @throws IsthmusError the refusal */
  admit(meaning: FlowMeaning): HostPort;
  count(event: "datagram-forged" | "datagram-dropped" | "repeated-open"): void;
}

export interface CarrierEvents {
  datagram(datagram: Buffer): void;
  ready(): void;
  closed(): void;
}

/**
 * All UDP under one generation of a link: one path at a time carries all flows (DESIGN section 4). The Noise initiator
 * opens paths, the other side asks for one. Datagrams that come before there is a path, or before their flow is known,
 * wait a little.
 */
export class UdpSession {
  readonly #world: UdpWorld;
  readonly #paths = new Map<number, UdpPath>();
  readonly #flows = new Map<number, UdpFlow>();
  /** Flows of this side that the peer has not confirmed. */
  readonly #announcing = new Set<UdpFlow>();
  readonly #early = new EarlyQueue<{ flow: UdpFlow; payload: Buffer }>(WAIT_FOR_PATH_MS);
  readonly #unclaimed = new EarlyQueue<{ flow: number; payload: Buffer }>(WAIT_FOR_FLOW_MS);
  readonly #reassembly = new Reassembly();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #lastUsed = 0;
  #nextTry = 0;
  #failures = 0;
  #nextUpgrade = 0;
  #wantedUntil = 0;
  #nextIdleCheck = Date.now() + IDLE_CHECK_MS;
  #isClosed = false;

  constructor(world: UdpWorld) {
    this.#world = world;
  }

  /** The path that datagrams take: the newest that is up, a stream only where there is nothing else. */
  get path(): UdpPath | undefined {
    let best: UdpPath | undefined;
    for (const path of this.#paths.values()) {
      if (path.health.state === "up" && (!best || isStream(best) || !isStream(path))) best = path;
    }
    return best;
  }

  get isIdle(): boolean {
    return this.#flows.size === 0 && this.#paths.size === 0;
  }

  countOf(subscription: string): number {
    let count = 0;
    for (const { meaning } of this.#flows.values()) if (meaning.subscription === subscription) count++;
    return count;
  }

  /** An application here sends to a channel: gives the flow that its datagrams belong to. */
  open(meaning: FlowMeaning, endpoint: FlowEndpoint): UdpFlow {
    const flow = new UdpFlow(this.#world.nextFlowId(), meaning, endpoint, true, Date.now());
    this.#add(flow);
    this.#announcing.add(flow);
    this.#tick();
    return flow;
  }

  send(flow: UdpFlow, payload: Buffer): void {
    if (this.#isClosed || this.#flows.get(flow.id) !== flow) return;
    const now = Date.now();
    flow.lastUsed = now;
    this.#lastUsed = now;
    const { path } = this;
    if (path) {
      const wakeAt = path.health.wakeAt;
      path.send(flow.id, payload, now);
      if (path.health.wakeAt !== wakeAt) this.#schedule();
    } else {
      this.#early.put({ flow, payload }, now);
      this.#tick();
    }
  }

  closeFlow(flow: UdpFlow, options: { tellPeer: boolean }): void {
    if (!this.#flows.delete(flow.id)) return;
    this.#announcing.delete(flow);
    flow.endpoint.close();
    if (options.tellPeer) this.#world.tell({ t: "flowEnd", flow: flow.id });
  }

  /** Ends the flows of a subscription. */
  end(subscription: string): void {
    for (const flow of [...this.#flows.values()]) {
      if (flow.meaning.subscription === subscription) this.closeFlow(flow, { tellPeer: true });
    }
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const flow of this.#flows.values()) flow.endpoint.close();
    for (const path of this.#paths.values()) path.close();
    this.#flows.clear();
    this.#paths.clear();
  }

  // Control messages of the peer

  openByPeer(message: LinkControlBody<"open">): void {
    const { id, attempt, rendezvous } = message;
    if (this.#paths.has(id)) return;
    const refuse = (code: Code): void => this.#world.tell({ t: "refused", id, attempt, code });
    if (id % 2 === this.#world.generation.role || !this.#world.peerOpens.take(id)) {
      this.#world.count("repeated-open");
      refuse("repeated-open");
      return;
    }
    try {
      this.#addPath(id, rendezvous);
    } catch (error) {
      refuse(toIsthmusError(error).code);
    }
  }

  /** The peer cannot meet at the path's rendezvous. */
  refused(id: number): void {
    const path = this.#paths.get(id);
    if (path) this.#closePath(path, true);
  }

  wanted(): void {
    if (this.#world.generation.role !== 0 || this.path || this.#isProbing()) return;
    this.#wantedUntil = Date.now() + WANTED_FOR_MS;
    this.#tick();
  }

  flowByPeer(message: LinkControlBody<"flow">): void {
    const { flow: id, subscription, channel, opener } = message;
    const known = this.#flows.get(id);
    if (known) {
      this.#world.tell({ t: "flowOk", flow: id });
      return;
    }
    if (id % 2 === this.#world.generation.role || !this.#world.peerFlows.take(id)) {
      this.#world.count("repeated-open");
      this.#world.tell({ t: "flowRefused", flow: id, code: "repeated-open" });
      return;
    }
    const meaning = { subscription, channel, opener };
    let target: HostPort;
    try {
      target = this.#world.admit(meaning);
    } catch (error) {
      this.#world.tell({ t: "flowRefused", flow: id, code: toIsthmusError(error).code });
      return;
    }
    const flow: UdpFlow = new UdpFlow(
      id,
      meaning,
      serviceEndpoint(target, (payload) => this.send(flow, payload)),
      false,
      Date.now(),
    );
    this.#add(flow);
    this.#world.tell({ t: "flowOk", flow: id });
    for (const { payload } of this.#unclaimed.take(Date.now(), (item) => item.flow === id)) {
      flow.endpoint.deliver(payload);
    }
  }

  flowKnown(id: number): void {
    const flow = this.#flows.get(id);
    if (flow) this.#isKnown(flow);
  }

  flowEnded(id: number): void {
    const flow = this.#flows.get(id);
    if (flow) this.closeFlow(flow, { tellPeer: false });
  }

  // Paths

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

  #add(flow: UdpFlow): void {
    if (this.#flows.size >= MOST_FLOWS) {
      const oldest = [...this.#flows.values()].reduce((a, b) => (a.lastUsed <= b.lastUsed ? a : b));
      this.closeFlow(oldest, { tellPeer: true });
    }
    this.#flows.set(flow.id, flow);
  }

  #isProbing(): boolean {
    return [...this.#paths.values()].some(({ health }) => health.state === "probing");
  }

  #openPath(now: number): void {
    const rendezvous = this.#world.choose(this.#failures >= FAILURES_BEFORE_STREAM);
    if (!rendezvous) {
      this.#nextTry = now + NO_PLACE_RETRY_MS;
      return;
    }
    const id = this.#world.nextOpenId();
    try {
      this.#addPath(id, rendezvous);
    } catch {
      this.#failures++;
      this.#world.settled(rendezvous, true);
      this.#nextTry = now + NO_PLACE_RETRY_MS;
      return;
    }
    this.#world.tell({ t: "open", id, attempt: 0, proto: "udp", rendezvous, plain: false });
  }

  #addPath(id: number, rendezvous: Rendezvous): void {
    if (this.#paths.size >= MOST_PATHS) throw new IsthmusError("too-many-opens");
    const now = Date.now();
    const path = new UdpPath(this.#world.generation, id, rendezvous, now);
    this.#lastUsed = now;
    path.carrier = this.#world.carry(path, rendezvous, this.#eventsOf(path));
    this.#paths.set(id, path);
    this.#schedule();
  }

  #eventsOf(path: UdpPath): CarrierEvents {
    return {
      datagram: (datagram) => this.#received(path, datagram),
      ready: () => {
        path.health.ready(Date.now());
        this.#tick();
      },
      closed: () => this.#closePath(path, true),
    };
  }

  #received(path: UdpPath, datagram: Buffer): void {
    const now = Date.now();
    const { wasUp } = path;
    const refusedBefore = path.refused;
    const received = path.receive(datagram, now);
    if (path.refused !== refusedBefore) this.#world.count("datagram-forged");
    else if (path.health.state === "probing") {
      path.health.heard(now);
      path.tick(now);
    }
    if (!wasUp && path.wasUp) this.#pathIsUp(path, now);
    if (!received) return;
    this.#lastUsed = now;
    const { flow: id, part } = received;
    const payload = part ? this.#reassembly.take(String(id), part, received.payload, now) : received.payload;
    if (!payload) return;
    const flow = this.#flows.get(id);
    if (flow) {
      flow.lastUsed = now;
      this.#isKnown(flow);
      flow.endpoint.deliver(payload);
    } else this.#unclaimed.put({ flow: id, payload }, now);
  }

  #pathIsUp(path: UdpPath, now: number): void {
    this.#failures = 0;
    this.#nextUpgrade = now + RETRY_DATAGRAM_PATH_MS;
    for (const { flow, payload } of this.#early.take(now)) path.send(flow.id, payload, now);
    path.tick(now);
    // Older paths are of no more use, unless this one is the last resort.
    if (isStream(path)) return;
    for (const older of [...this.#paths.values()])
      if (older !== path && older.id < path.id) this.#closePath(older, false);
  }

  #closePath(path: UdpPath, failed: boolean): void {
    if (!this.#paths.delete(path.id)) return;
    if (failed && !path.wasUp) this.#failures++;
    path.close();
    // The rendezvous is this side's to give back only where this side chose it.
    if (path.id % 2 === this.#world.generation.role) this.#world.settled(path.rendezvous, failed);
    this.#tick();
  }

  /** Does what is due, and comes back when the next thing is. */
  #tick(): void {
    if (this.#isClosed) return;
    const now = Date.now();
    for (const flow of [...this.#announcing]) this.#announce(flow, now);
    if (now >= this.#nextIdleCheck) {
      this.#nextIdleCheck = now + IDLE_CHECK_MS;
      for (const flow of [...this.#flows.values()]) {
        if (now - flow.lastUsed > FLOW_IDLE_MS) this.closeFlow(flow, { tellPeer: true });
      }
    }
    for (const path of [...this.#paths.values()]) {
      path.tick(now);
      if (path.health.state === "dead") this.#closePath(path, true);
      else if (now - this.#lastUsed > PATH_IDLE_MS) this.#closePath(path, false);
    }
    this.#lookForPath(now);
    this.#reassembly.expire(now);
    this.#schedule();
  }

  #announce(flow: UdpFlow, now: number): void {
    switch (flow.announce(now)) {
      case "say":
        this.#world.tell({ t: "flow", flow: flow.id, ...flow.meaning });
        break;
      case "give-up":
        this.closeFlow(flow, { tellPeer: false });
        break;
      case "wait":
        break;
    }
  }

  #isKnown(flow: UdpFlow): void {
    flow.known();
    this.#announcing.delete(flow);
  }

  #lookForPath(now: number): void {
    if (now < this.#nextTry || this.#isProbing()) return;
    const { path } = this;
    const isNeeded = path ? isStream(path) && now >= this.#nextUpgrade : this.#isPathWanted(now);
    if (!isNeeded) return;
    if (this.#world.generation.role === 0) {
      if (path) {
        this.#nextUpgrade = now + RETRY_DATAGRAM_PATH_MS;
        this.#failures = 0;
      }
      this.#openPath(now);
    } else if (!path) {
      this.#nextTry = now + ASK_AGAIN_MS;
      this.#world.tell({ t: "udpWanted" });
    }
  }

  #isPathWanted(now: number): boolean {
    return this.#early.length > 0 || now < this.#wantedUntil;
  }

  #schedule(): void {
    if (this.#isClosed) return;
    const now = Date.now();
    let at = this.isIdle ? Number.POSITIVE_INFINITY : Math.max(now, this.#nextIdleCheck);
    for (const { health } of this.#paths.values()) at = Math.min(at, health.wakeAt ?? now);
    for (const { announceAt } of this.#announcing) at = Math.min(at, announceAt ?? at);
    if (this.#isPathWanted(now) && !this.path) at = Math.min(at, Math.max(this.#nextTry, now + 1));
    if (at === this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    if (at === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(
      () => {
        this.#timerAt = Number.POSITIVE_INFINITY;
        this.#tick();
      },
      Math.max(0, at - now),
    );
  }
}

function isStream(path: UdpPath): boolean {
  return path.rendezvous.at === "stream";
}

/** A UDP socket towards a service on this host or in its LAN, one for each flow, as its client would have had. */
function serviceEndpoint(target: HostPort, received: (payload: Buffer) => void): FlowEndpoint {
  const socket = createSocket({ type: isIP(target.host) === 6 ? "udp6" : "udp4" });
  const early: Buffer[] = [];
  let isReady = false;
  let isClosed = false;
  socket.on("message", (message) => received(message));
  // A closed port answers with ICMP: UDP's way to say that nobody is there, passed on as silence.
  socket.on("error", () => undefined);
  socket.connect(target.port, target.host, (error?: Error) => {
    if (error || isClosed) return;
    isReady = true;
    for (const payload of early.splice(0)) socket.send(payload);
  });
  return {
    deliver: (payload) => {
      if (isClosed) return;
      if (isReady) socket.send(payload);
      else if (early.length < LIMITS.earlyDatagrams) early.push(payload);
    },
    close: () => {
      if (isClosed) return;
      isClosed = true;
      socket.close();
    },
  };
}

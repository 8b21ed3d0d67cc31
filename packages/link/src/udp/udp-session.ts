import type { UdpSockets } from "@isthmus/native/udp";
import { type Code, type HostPort, type LinkControlBody, toIsthmusError } from "@isthmus/protocol";
import type { IdWindow } from "../open/id-window.ts";
import { EarlyQueue } from "./early-queue.ts";
import { FLOW_IDLE_MS, type FlowEndpoint, type FlowMeaning, UdpFlow } from "./flow.ts";
import type { DatagramCarrier, ReceivedDatagram, UdpPath } from "./path.ts";
import { type CarrierEvents, type PathsWorld, UdpPaths } from "./paths.ts";
import { Reassembly } from "./reassembly.ts";
import { serviceEndpoint } from "./service-endpoint.ts";

/** Datagrams wait this long for a path: longer than it takes to try a second one. */
const WAIT_FOR_PATH_MS = 6000;
/** Datagrams wait this long for the control message that says what their flow is. */
const WAIT_FOR_FLOW_MS = 2000;
/** What its client sends to a refused flow is dropped for this long, then it is asked for anew. */
const REFUSED_MS = 5000;
/** Flows of one peer under one generation; beyond it the longest unused goes. */
const MOST_FLOWS = 4096;
const IDLE_CHECK_MS = 30_000;

/** What the UDP of one generation asks of its link. */
export interface UdpWorld extends Omit<PathsWorld, "count"> {
  /** Towards services. */
  readonly sockets: UdpSockets;
  readonly peerFlows: IdWindow;
  nextFlowId(): number;
  /** @throws IsthmusError the refusal */
  admit(meaning: FlowMeaning): HostPort;
  /** The peer refused a flow of this side. */
  refused(subscription: string, code: Code): void;
  count(event: "datagram-forged" | "datagram-dropped" | "repeated-open"): void;
}

/**
 * All UDP flows under one generation of a link, on whatever path is best. Datagrams that come before there is a path, or
 * before their flow is known, wait a little.
 */
export class UdpSession {
  readonly #world: UdpWorld;
  readonly #paths: UdpPaths;
  readonly #flows = new Map<number, UdpFlow>();
  /** Flows of this side that the peer has not confirmed. */
  readonly #announcing = new Set<UdpFlow>();
  /** Flows that the peer refused: they are no flows any more, but their clients do not know. */
  readonly #refused = new Map<UdpFlow, NodeJS.Timeout>();
  readonly #early: EarlyQueue<{ flow: UdpFlow; payload: Buffer }>;
  readonly #unclaimed: EarlyQueue<{ flow: number; payload: Buffer }>;
  readonly #reassembly: Reassembly;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #lastUsed = 0;
  #nextIdleCheck = performance.now() + IDLE_CHECK_MS;
  #isClosed = false;

  constructor(world: UdpWorld) {
    this.#world = world;
    const dropped = (): void => world.count("datagram-dropped");
    this.#early = new EarlyQueue(WAIT_FOR_PATH_MS, dropped);
    this.#unclaimed = new EarlyQueue(WAIT_FOR_FLOW_MS, dropped);
    this.#reassembly = new Reassembly(dropped);
    this.#paths = new UdpPaths(world, {
      received: (path, datagram, now) => this.#received(path, datagram, now),
      up: (path, now) => {
        for (const { flow, payload } of this.#early.take(now)) {
          if (this.#flows.get(flow.id) === flow) path.send(flow.id, payload, now);
        }
      },
      due: () => this.#tick(),
    });
  }

  /** The path that datagrams take. */
  get path(): UdpPath | undefined {
    return this.#paths.best;
  }

  get isIdle(): boolean {
    return this.#flows.size === 0 && this.#paths.size === 0;
  }

  /** Flows. */
  get size(): number {
    return this.#flows.size;
  }

  /** Allocations at which its paths meet. */
  get allocations(): string[] {
    return this.#paths.allocations;
  }

  countOf(subscription: string): number {
    let count = 0;
    for (const { meaning } of this.#flows.values()) if (meaning.subscription === subscription) count++;
    return count;
  }

  /** An application here sends to a channel: gives the flow that its datagrams belong to. */
  open(meaning: FlowMeaning, endpoint: FlowEndpoint): UdpFlow {
    const flow = new UdpFlow(this.#world.nextFlowId(), meaning, endpoint, true, performance.now());
    this.#add(flow);
    this.#announcing.add(flow);
    this.#tick();
    return flow;
  }

  send(flow: UdpFlow, payload: Buffer): void {
    if (this.#isClosed || this.#flows.get(flow.id) !== flow) return;
    const now = performance.now();
    flow.lastUsed = now;
    this.#lastUsed = now;
    const { path } = this;
    if (path) {
      const wakeAt = path.health.wakeAt;
      path.send(flow.id, payload, now);
      if (path.health.wakeAt !== wakeAt) this.#schedule();
    } else {
      // A copy: it may lie in one piece of memory with many that do not wait.
      this.#early.put({ flow, payload: Buffer.from(payload) }, now);
      this.#tick();
    }
  }

  closeFlow(flow: UdpFlow, options: { tellPeer: boolean }): void {
    if (!this.#remove(flow)) return;
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
    this.#paths.close();
    for (const timer of this.#refused.values()) clearTimeout(timer);
    for (const flow of [...this.#flows.values(), ...this.#refused.keys()]) flow.endpoint.close();
    this.#flows.clear();
    this.#refused.clear();
    this.#announcing.clear();
  }

  /** See {@link UdpPaths.meetingReady}. */
  meetingReady(): void {
    this.#paths.meetingReady(performance.now());
  }

  // Control messages of the peer

  openByPeer(message: LinkControlBody<"open">): void {
    const now = performance.now();
    this.#lastUsed = now;
    this.#paths.openByPeer(message, now);
  }

  /** The peer cannot meet at a path's rendezvous, or has closed a path. */
  pathEnded(id: number): void {
    this.#paths.endedByPeer(id);
    this.#tick();
  }

  wanted(): void {
    this.#lastUsed = performance.now();
    this.#paths.wanted(this.#lastUsed);
  }

  flowByPeer(message: LinkControlBody<"flow">): void {
    const { flow: id, subscription, channel, opener } = message;
    if (this.#flows.has(id)) {
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
    const now = performance.now();
    const endpoint = serviceEndpoint(this.#world.sockets, target, (payload) => this.send(flow, payload));
    const flow: UdpFlow = new UdpFlow(id, meaning, endpoint, false, now);
    this.#add(flow);
    this.#world.tell({ t: "flowOk", flow: id });
    for (const { payload } of this.#unclaimed.take(now, (item) => item.flow === id)) flow.endpoint.deliver(payload);
    this.#schedule();
  }

  flowKnown(id: number): void {
    const flow = this.#flows.get(id);
    if (flow) this.#isKnown(flow);
  }

  /** A client that goes on sending would make a new flow of each datagram, and a control message of each flow. */
  flowRefused(id: number, code: Code): void {
    const flow = this.#flows.get(id);
    if (!flow || !this.#remove(flow)) return;
    const forget = (): void => {
      this.#refused.delete(flow);
      flow.endpoint.close();
    };
    this.#refused.set(flow, setTimeout(forget, REFUSED_MS));
    this.#world.refused(flow.meaning.subscription, code);
  }

  flowEnded(id: number): void {
    const flow = this.#flows.get(id);
    if (flow) this.closeFlow(flow, { tellPeer: false });
  }

  bindCarrier(id: number, carrier: (events: CarrierEvents) => DatagramCarrier): boolean {
    return this.#paths.bindCarrier(id, carrier);
  }

  #add(flow: UdpFlow): void {
    if (this.#flows.size >= MOST_FLOWS) {
      const oldest = [...this.#flows.values()].reduce((a, b) => (a.lastUsed <= b.lastUsed ? a : b));
      this.closeFlow(oldest, { tellPeer: true });
    }
    this.#flows.set(flow.id, flow);
  }

  #remove(flow: UdpFlow): boolean {
    this.#announcing.delete(flow);
    return this.#flows.delete(flow.id);
  }

  #received(path: UdpPath, { flow: id, part, payload: received }: ReceivedDatagram, now: number): void {
    this.#lastUsed = now;
    // Parts are numbered by path: two of one number on two paths have nothing to do with each other.
    const payload = part ? this.#reassembly.take(`${path.id} ${id}`, part, received, now) : received;
    if (!payload) return;
    const flow = this.#flows.get(id);
    if (flow) {
      flow.lastUsed = now;
      this.#isKnown(flow);
      flow.endpoint.deliver(payload);
    } else if (id % 2 !== this.#world.generation.role) this.#unclaimed.put({ flow: id, payload }, now);
    else this.#world.count("datagram-dropped");
  }

  /** Does what is due, and comes back when the next thing is. */
  #tick(): void {
    if (this.#isClosed) return;
    const now = performance.now();
    for (const flow of [...this.#announcing]) this.#announce(flow, now);
    if (now >= this.#nextIdleCheck) {
      this.#nextIdleCheck = now + IDLE_CHECK_MS;
      for (const flow of [...this.#flows.values()]) {
        if (now - flow.lastUsed > FLOW_IDLE_MS) this.closeFlow(flow, { tellPeer: true });
      }
    }
    this.#early.expire(now);
    this.#unclaimed.expire(now);
    this.#reassembly.expire(now);
    this.#paths.tick(now, { lastUsed: this.#lastUsed, isWanted: this.#early.length > 0 });
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

  #schedule(): void {
    if (this.#isClosed) return;
    const now = performance.now();
    let at = this.isIdle ? Number.POSITIVE_INFINITY : this.#nextIdleCheck;
    for (const { announceAt } of this.#announcing) at = Math.min(at, announceAt ?? at);
    at = Math.min(at, this.#early.expiresAt ?? at, this.#paths.wakeAt(now, this.#early.length > 0));
    if (at === this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    if (at === Number.POSITIVE_INFINITY) return;
    const run = (): void => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.#tick();
    };
    this.#timer = setTimeout(run, Math.max(0, at - now));
  }
}

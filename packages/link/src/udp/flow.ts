import type { Opener } from "@isthmus/protocol";

/** A flow on which nothing moves is forgotten after this (RFC 4787 REQ-5: at least 2 min, better 5). */
export const FLOW_IDLE_MS = 300_000;
/** An unanswered `flow` message is said again after this, so many times in all. */
const ANNOUNCE_EVERY_MS = 1000;
const ANNOUNCE_TIMES = 10;

/** Which channel of which subscription a flow belongs to, and which side of it opened the channel. */
export interface FlowMeaning {
  subscription: string;
  channel: string;
  opener: Opener;
}

/** The flow's end on this host: an application's socket, or the listener and the client's address. */
export interface FlowEndpoint {
  /** Gives a datagram of the peer to the application. */
  deliver(payload: Buffer): void;
  /** Frees what belongs to the flow on this host. */
  close(): void;
}

/** One UDP flow: what one client of an application sends to a service, and back. */
export class UdpFlow {
  readonly id: number;
  readonly meaning: FlowMeaning;
  readonly endpoint: FlowEndpoint;
  lastUsed: number;
  /** Said to the peer so many times without an answer; nothing when the peer knows the flow. */
  #announced: { times: number; next: number } | undefined;

  /** @param isOurs this side opened it and must say what it is */
  constructor(id: number, meaning: FlowMeaning, endpoint: FlowEndpoint, isOurs: boolean, now: number) {
    this.id = id;
    this.meaning = meaning;
    this.endpoint = endpoint;
    this.lastUsed = now;
    this.#announced = isOurs ? { times: 0, next: now } : undefined;
  }

  /** The peer knows the flow. */
  known(): void {
    this.#announced = undefined;
  }

  /** When {@link isDue} may become true; nothing when there is nothing to say. */
  get announceAt(): number | undefined {
    return this.#announced?.next;
  }

  /** @returns whether to say now what the flow is, or that it is hopeless */
  announce(now: number): "say" | "wait" | "give-up" {
    const announced = this.#announced;
    if (!announced || now < announced.next) return "wait";
    if (announced.times >= ANNOUNCE_TIMES) return "give-up";
    announced.times++;
    announced.next = now + ANNOUNCE_EVERY_MS;
    return "say";
  }
}

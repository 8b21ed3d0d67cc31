import type { Socket } from "node:net";
import { type Code, encodeLegHeader, type HostPort, type LegHeader, NO_ID } from "@isthmus/protocol";
import type { GenerationState } from "../generation-state.ts";
import { listenTo, SocketEndpoint } from "../leg/socket-endpoint.ts";
import type { AnswererStream } from "../open/answerer-stream.ts";
import type { Endpoint, Leg, OpenMessage, Stream } from "../open/stream.ts";
import { connectTo } from "./connect.ts";
import type { DirectMeeting } from "./direct-meeting.ts";
import { INBOUND_TIMEOUT_MS, readInboundLeg } from "./inbound-leg.ts";
import type { IstMeeting } from "./ist-meeting.ts";

/**
 * Legs that a peer may have under way to this side whose opens are not known yet. Whoever saw a header on its way can
 * show it again as often as it likes.
 */
const MOST_INBOUND = 1024;

/** The meeting places of a link at the moment, and what becomes of a direct leg that brings its open along. */
export interface Meetings {
  ist(allocation: string): IstMeeting | undefined;
  direct(): DirectMeeting | undefined;
  /** @returns the stream that answers, or nothing when it was refused */
  openByLeg(state: GenerationState, message: OpenMessage): AnswererStream | undefined;
  /** A direct leg was refused, for a counter. */
  refused(): void;
}

/**
 * Connects the legs of a link's streams: to a cell, to the stream endpoint, to the peer's leg port, or by taking the
 * connection that the peer made to this side's.
 */
export class LegDialer {
  readonly #meetings: Meetings;
  /** Legs whose connection the peer makes, and such connections whose open is still under way over control. */
  readonly #awaited = new Map<string, Leg>();
  readonly #parked = new Map<string, Socket>();
  /** Connections of which it is not known yet what they are for. */
  readonly #unread = new Set<Socket>();

  constructor(meetings: Meetings) {
    this.#meetings = meetings;
  }

  dial(stream: Stream, leg: Leg): void {
    const { rendezvous, attempt } = leg;
    const { generation, openId } = stream;
    if (rendezvous.at === "direct") {
      this.#dialDirect(stream, leg);
      return;
    }
    const meeting = this.#meetings.ist(rendezvous.allocation);
    if (meeting && rendezvous.at === "cell" && rendezvous.mode === "pure") {
      this.#dialPure(leg, meeting, rendezvous.cell);
      return;
    }
    const address = rendezvous.at === "cell" ? meeting?.cellAddress(rendezvous.cell) : meeting?.streamAddress(attempt);
    if (!meeting || !address) {
      // Later, since the stream is in the middle of what led here.
      setImmediate(() => leg.lost("unknown-allocation"));
      return;
    }
    const header =
      rendezvous.at === "stream" ? meeting.legHeader({ generation: generation.id, openId, attempt }) : undefined;
    this.#connect(leg, address, header);
  }

  /** A connection to this side's leg port whose header was verified; `socket` is paused behind the header. */
  accept(socket: Socket, header: LegHeader, state: GenerationState): void {
    const key = keyOf(header.generation, header.openId, header.attempt);
    const leg = this.#awaited.get(key);
    this.#awaited.delete(key);
    if (leg) {
      bind(socket, leg);
      return;
    }
    // Only the opener of this id can bring an open along.
    const isOpener = header.openId % 2 === header.side;
    if (isOpener && this.#unread.size + this.#parked.size < MOST_INBOUND) this.#readOpen(socket, header, state);
    else {
      this.#meetings.refused();
      socket.resetAndDestroy();
    }
  }

  close(): void {
    for (const socket of [...this.#parked.values(), ...this.#unread]) socket.destroy();
    this.#parked.clear();
    this.#awaited.clear();
  }

  #connect(leg: Leg, address: HostPort, header: Buffer | undefined): void {
    this.#begin(leg, connectTo(address), header, "leg-lost");
  }

  /** At a cell where ports pass unchanged: from the port that was agreed on, or to the one that the IST has learned. */
  #dialPure(leg: Leg, meeting: IstMeeting, cell: number): void {
    const found = meeting.pureAddress(cell);
    if (!found) {
      setImmediate(() => leg.lost("unknown-allocation"));
      return;
    }
    const { address, source } = found;
    // A port that is taken here, or that a NAT has changed so that the IST refused it, is said at once.
    const connect = (port: number): void =>
      this.#begin(leg, connectTo({ ...address, port }, source), undefined, "unsupported-rendezvous");
    if (address.port !== 0) {
      connect(address.port);
      return;
    }
    leg.endpoint = waiting(
      meeting.nextHalf(cell, (port) => {
        if (port === undefined) leg.lost("unsupported-rendezvous");
        else connect(port);
      }),
    );
  }

  /** @param lostAs what it is when no connection comes of it */
  #begin(leg: Leg, socket: Socket, header: Buffer | undefined, lostAs: Code): void {
    leg.endpoint = new SocketEndpoint(socket);
    const failed = (): void => leg.lost(lostAs);
    socket.once("close", failed);
    socket.on("error", () => undefined);
    socket.once("connect", () => {
      socket.off("close", failed);
      // Header, preface and what the application said so far leave in one segment.
      socket.cork();
      if (header) socket.write(header);
      bind(socket, leg);
      process.nextTick(() => socket.uncork());
    });
  }

  #dialDirect(stream: Stream, leg: Leg): void {
    const { generation, openId } = stream;
    const direct = this.#meetings.direct();
    const key = keyOf(generation.id, openId, leg.attempt);
    if (!direct?.isDialler) {
      const parked = this.#parked.get(key);
      this.#parked.delete(key);
      if (parked) setImmediate(() => bind(parked, leg));
      else this.#await(key, leg);
      return;
    }
    const { address } = direct;
    if (!address) {
      setImmediate(() => leg.lost("no-path"));
      return;
    }
    const header = { kind: "leg", side: generation.role, allocation: NO_ID, generation: generation.id } as const;
    this.#connect(leg, address, encodeLegHeader({ ...header, openId, attempt: leg.attempt }, generation.directKey));
  }

  /** The peer makes the connection; dropping the leg ends the wait. */
  #await(key: string, leg: Leg): void {
    this.#awaited.set(key, leg);
    leg.endpoint = waiting(() => this.#awaited.delete(key));
  }

  /** A leg of the opener arrived before anything else was heard of the open. */
  #readOpen(socket: Socket, header: LegHeader, state: GenerationState): void {
    this.#unread.add(socket);
    socket.once("close", () => this.#unread.delete(socket));
    readInboundLeg(socket, header, state.generation, {
      sealed: (message, codec) => {
        this.#unread.delete(socket);
        const stream = this.#meetings.openByLeg(state, message);
        return stream?.take(message.attempt, message.rendezvous, codec, new SocketEndpoint(socket));
      },
      plain: () => {
        this.#unread.delete(socket);
        this.#park(socket, header);
      },
      refused: () => this.#meetings.refused(),
    });
  }

  #park(socket: Socket, header: LegHeader): void {
    const key = keyOf(header.generation, header.openId, header.attempt);
    const leg = this.#awaited.get(key);
    if (leg) {
      this.#awaited.delete(key);
      bind(socket, leg);
      return;
    }
    if (this.#parked.has(key)) {
      this.#meetings.refused();
      socket.resetAndDestroy();
      return;
    }
    this.#parked.set(key, socket);
    const isParked = (): boolean => this.#parked.get(key) === socket;
    const timer = setTimeout(() => isParked() && socket.destroy(), INBOUND_TIMEOUT_MS);
    socket.once("close", () => {
      clearTimeout(timer);
      if (isParked()) this.#parked.delete(key);
    });
  }
}

/** What a leg has for an endpoint before its connection can be made. @param reset nobody waits for it any more */
function waiting(reset: () => void): Endpoint {
  return {
    write: () => true,
    end: () => undefined,
    reset,
    close: () => undefined,
    pause: () => undefined,
    resume: () => undefined,
  };
}

function bind(socket: Socket, leg: Leg): void {
  listenTo(socket, {
    data: (chunk) => leg.data(chunk),
    end: () => leg.end(),
    drained: () => leg.drained(),
    lost: () => leg.lost("leg-lost"),
  });
  leg.up(new SocketEndpoint(socket));
  socket.resume();
}

function keyOf(generation: string, openId: number, attempt: number): string {
  return `${generation} ${openId} ${attempt}`;
}

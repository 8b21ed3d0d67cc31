import type { Socket } from "node:net";
import { type UdpSockets, udpSockets } from "@isthmus/native/udp";
import {
  type AllocationOffer,
  type Code,
  decodeControlFrame,
  encodeLegHeader,
  encodeUnknownGeneration,
  type HostPort,
  IsthmusError,
  type LegHeader,
  type LinkControlMessage,
  NO_ID,
  type Opener,
  type Rendezvous,
} from "@isthmus/protocol";
import type { Identity, Logger } from "@isthmus/service";
import { GenerationState } from "./generation-state.ts";
import type { Generation } from "./keys/generation.ts";
import { Initiator, respond } from "./keys/handshake.ts";
import type { X25519KeyPair } from "./keys/noise.ts";
import type { LinkHost } from "./link-host.ts";
import { connectTo } from "./meeting/connect.ts";
import type { ControlConnection } from "./meeting/control-connection.ts";
import { DirectMeeting } from "./meeting/direct-meeting.ts";
import { IstMeeting } from "./meeting/ist-meeting.ts";
import { LegDialer } from "./meeting/leg-dialer.ts";
import { Opens } from "./open/opens.ts";
import type { LegOutcome } from "./open/stream.ts";
import type { FlowEndpoint, FlowMeaning, UdpFlow } from "./udp/flow.ts";
import type { DatagramCarrier, UdpPath } from "./udp/path.ts";
import type { CarrierEvents } from "./udp/paths.ts";
import { streamCarrier } from "./udp/stream-carrier.ts";
import { UdpSession } from "./udp/udp-session.ts";

/** Keys older than this are replaced by a handshake over control, without the ISB. */
const REKEY_AFTER_MS = 12 * 3600 * 1000;
/** An older generation is kept this long at least: opens under it may be under way. */
const GENERATION_GRACE_MS = 60_000;
/** Generations kept beyond their grace: two bits of a datagram tell them apart. */
const KEPT_GENERATIONS = 4;
const MOST_GENERATIONS = 64;
const HOUSEKEEPING_MS = 10_000;
/** A direct control connection is asked for a sign of life this often. */
const DIRECT_PING_MS = 15_000;
const DIRECT_PONG_MS = 2000;
/** Not more often than this is a lost-keys hint believed: it is not sealed, anybody on the way can make one. */
const KEYS_LOST_EVERY_MS = 5000;

export interface LinkOptions {
  identity: Identity;
  staticKey: X25519KeyPair;
  /** The other device's key. */
  peer: string;
  host: LinkHost;
  logger: Logger;
  /** By default the best that this process has. */
  sockets?: UdpSockets;
}

/** Which way a control frame came. */
export type ControlVia = ControlConnection | "ist" | "isb";

/**
 * The secure association of this daemon with one other, whatever the number of subscriptions between them: its keys, its
 * control messages, its streams and its UDP, over whatever meeting places there are.
 */
export class Link {
  readonly peer: string;
  readonly #identity: Identity;
  readonly #staticKey: X25519KeyPair;
  readonly #host: LinkHost;
  readonly #logger: Logger;
  readonly #sockets: UdpSockets;
  readonly #states = new Map<string, GenerationState>();
  readonly #udp = new Map<string, UdpSession>();
  readonly #dialer: LegDialer;
  readonly opens: Opens;
  #direct: DirectMeeting | undefined;
  /** What takes the place of the direct meeting once that is down: one that is up is not given up for another. */
  #nextDirect: { isDialler: boolean; addresses: HostPort[] } | undefined;
  #ist: IstMeeting | undefined;
  /** Legs under way may still meet at the former IST. */
  #formerIst: IstMeeting | undefined;
  #rekeying: { initiator: Initiator; since: number } | undefined;
  #keysLostAt = Number.NEGATIVE_INFINITY;
  #pings = 0;
  #pongAt = 0;
  readonly #housekeeping: NodeJS.Timeout;
  readonly #pinger: NodeJS.Timeout;
  /** Round trip to the peer, as far as the sessions know it. */
  rttMs: number | undefined;
  #closed = false;

  constructor(options: LinkOptions) {
    this.peer = options.peer;
    this.#identity = options.identity;
    this.#staticKey = options.staticKey;
    this.#host = options.host;
    this.#logger = options.logger;
    this.#sockets = options.sockets ?? udpSockets;
    this.#dialer = new LegDialer({
      ist: (allocation) => this.#istOf(allocation),
      direct: () => this.#direct,
      openByLeg: (state, message) => {
        this.#proved(state);
        return this.opens.openByLeg(state, message);
      },
      refused: () => this.#host.count("leg-refused"),
    });
    this.opens = new Opens(this, this.#host, this.#dialer);
    this.#housekeeping = setInterval(() => this.#tidy(), HOUSEKEEPING_MS);
    this.#pinger = setInterval(() => this.checkDirect(), DIRECT_PING_MS);
  }

  // Keys

  /** A handshake made new keys: they are used from now on, older ones are still accepted for a while. */
  addGeneration(generation: Generation): void {
    if (this.#closed || this.#states.has(generation.id)) return;
    const state = new GenerationState(generation);
    this.#states.set(generation.id, state);
    this.#udp.set(generation.id, this.#createUdp(state));
    this.#host.keysAdded(this, generation.id);
    if (state.isProved) this.#forgetFormerLives(state);
    if (this.#states.size > MOST_GENERATIONS) {
      const older = [...this.#states.values()].slice(0, -1);
      // Anybody who repeats the peer's first message can make keys that are never proved: they go first.
      this.#forget(older.find(({ isProved }) => !isProved) ?? older[0]!);
    }
    this.#direct?.start();
    this.opens.retry();
  }

  stateOf(generation: string): GenerationState | undefined {
    return this.#states.get(generation);
  }

  /** The newest keys that the peer is known to hold. */
  get newest(): GenerationState | undefined {
    const states = [...this.#states.values()];
    return states.findLast(({ isProved }) => isProved) ?? states.at(-1);
  }

  get generations(): Iterable<string> {
    return this.#states.keys();
  }

  // Meeting places

  get ist(): IstMeeting | undefined {
    return this.#ist;
  }

  get direct(): DirectMeeting | undefined {
    return this.#direct;
  }

  /** The allocation that this link has from now on. The same one again changes nothing. */
  setAllocation(offer: AllocationOffer): IstMeeting {
    if (this.#ist?.offer.allocation === offer.allocation) return this.#ist;
    this.#formerIst = this.#ist;
    this.#ist = new IstMeeting(offer, () => performance.now());
    this.opens.retry();
    return this.#ist;
  }

  dropAllocation(): void {
    this.#formerIst = undefined;
    this.#ist = undefined;
  }

  /** The allocation was joined, or cells were added: opens that wait may go on. */
  meetingReady(): void {
    this.opens.retry();
    for (const session of this.#udp.values()) session.meetingReady();
  }

  /**
   * One of the two is reachable. Where both are, what is told of two subscriptions may differ: whatever way is up stays.
   * @param addresses the peer's leg port, empty where the peer dials
   */
  setDirect(isDialler: boolean, addresses: HostPort[]): void {
    this.#nextDirect = undefined;
    if (this.#closed || this.#direct?.isSame(isDialler, addresses)) return;
    if (this.#direct?.isUp) {
      this.#nextDirect = { isDialler, addresses };
      return;
    }
    this.#direct?.close();
    this.#direct = new DirectMeeting({
      isDialler,
      addresses,
      generation: () => this.newest?.generation,
      frame: (frame, connection) => this.receiveControl(frame, connection),
      ping: (connection) => this.#sendPing(connection),
      changed: () => this.#directChanged(),
    });
    this.#direct.start();
  }

  get dialsDirect(): boolean {
    return this.#direct?.isDialler ?? false;
  }

  chooseStream(attempt: number): Rendezvous | undefined {
    if (this.#direct?.isUsable) return { at: "direct" };
    if (this.#ist) return this.#ist.choose(attempt);
    this.#needPlace();
    return undefined;
  }

  /** @param open whether this side opened, and so chose the place, which is its to give back */
  meetingSettled(rendezvous: Rendezvous, outcome: LegOutcome, open: { isOurs: boolean }): void {
    const hasFailed = outcome === "failed";
    if (rendezvous.at === "direct") {
      if (outcome !== "given-up") this.#direct?.legSettled(!hasFailed);
      if (hasFailed) this.checkDirect();
    } else if (open.isOurs) this.#istOf(rendezvous.allocation)?.settled(rendezvous, "tcp", outcome);
    if (hasFailed) this.#host.suspect(this);
  }

  /** A stream of this side that was joined there has ended. */
  meetingEnded(rendezvous: Rendezvous): void {
    if (rendezvous.at !== "direct") this.#istOf(rendezvous.allocation)?.ended(rendezvous);
  }

  /** Allocations that something of this link still meets at, the present one among them. */
  get allocations(): Set<string> {
    const used = this.opens.allocations;
    for (const session of this.#udp.values()) for (const allocation of session.allocations) used.add(allocation);
    if (this.#ist) used.add(this.#ist.offer.allocation);
    return used;
  }

  // Streams

  /** An application connected here. Without keys or a place to meet it waits, at most as long as any open. */
  openStream(socket: Socket, what: { subscription: string; channel: string; opener: Opener; plain: boolean }): void {
    const state = this.newest;
    if (state && !this.#closed) this.opens.open(state, socket, what);
    else socket.resetAndDestroy();
  }

  /** A connection to this side's leg port whose header was verified; the socket is paused behind it. */
  accept(socket: Socket, header: LegHeader): void {
    const state = this.#states.get(header.generation);
    if (!state || header.side === state.generation.role) socket.destroy();
    else if (header.kind === "control") {
      // Before the ISB told of it, or though this side was told to dial: the peer reaches this side, so it is used.
      if (!this.#direct) this.setDirect(false, []);
      this.#direct!.accept(socket);
    } else this.#dialer.accept(socket, header, state);
  }

  // UDP

  /** An application here sends to a channel. */
  openFlow(meaning: FlowMeaning, endpoint: FlowEndpoint): { session: UdpSession; flow: UdpFlow } | undefined {
    // Keys under which a path is up save making another one, unless they are due to be replaced.
    const now = performance.now();
    const withPath = [...this.#udp].findLast(
      ([id, { path }]) => path && now - this.#states.get(id)!.generation.created < REKEY_AFTER_MS,
    )?.[1];
    const session = withPath ?? (this.newest && this.#udp.get(this.newest.generation.id));
    return session && { session, flow: session.open(meaning, endpoint) };
  }

  /** A direct path's dialler sent its leg header from somewhere: its datagrams come from there. */
  acceptDatagrams(header: LegHeader, carrier: (events: CarrierEvents) => DatagramCarrier): boolean {
    const state = this.#states.get(header.generation);
    if (!state || header.kind !== "leg" || header.side === state.generation.role) return false;
    return this.#udp.get(header.generation)?.bindCarrier(header.openId, carrier) ?? false;
  }

  /** The path that carries datagrams, if there is one. */
  get udpPath(): UdpPath | undefined {
    return [...this.#udp.values()].findLast(({ path }) => path)?.path;
  }

  /** Streams and flows, of all subscriptions. */
  get size(): number {
    let size = this.opens.size;
    for (const session of this.#udp.values()) size += session.size;
    return size;
  }

  countOf(subscription: string): number {
    let count = this.opens.countOf(subscription);
    for (const session of this.#udp.values()) count += session.countOf(subscription);
    return count;
  }

  // Control

  /** Sends over the first way that is up: direct, IST, ISB. */
  tell(state: GenerationState, message: LinkControlMessage): void {
    const frame = state.control.seal(message);
    if (this.#direct?.send(frame)) this.#host.count("control-via-direct");
    else if (this.#ist?.peerJoined && this.#host.sendViaIst(this, frame)) this.#host.count("control-via-ist");
    else if (this.#host.sendViaIsb(this, frame)) this.#host.count("control-via-isb");
    else this.#host.count("control-lost");
  }

  receiveControl(bytes: Buffer, via: ControlVia): void {
    let frame: ReturnType<typeof decodeControlFrame>;
    try {
      frame = decodeControlFrame(bytes);
    } catch {
      this.#host.count("control-forged");
      return;
    }
    if (frame.kind === "unknown-generation") {
      this.#hintKeysLost(frame.generation);
      return;
    }
    const state = this.#states.get(frame.generation);
    if (!state) {
      this.#host.count("generation-unknown");
      this.#answerVia(encodeUnknownGeneration(frame.generation), via);
      return;
    }
    let opened: ReturnType<typeof state.control.open>;
    try {
      opened = state.control.open(frame);
    } catch (error) {
      this.#logger.warn({ err: error }, "the peer sealed a malformed control message");
      return;
    }
    if (opened.is === "refused") {
      this.#host.count("control-forged");
      return;
    }
    this.#proved(state);
    if (typeof via === "object") this.#direct?.prove(via);
    if (opened.is === "unknown") this.#host.count("control-unknown");
    else this.#take(state, opened.message, via);
  }

  #proved(state: GenerationState): void {
    if (state.isProved || this.#states.get(state.generation.id) !== state) return;
    state.isProved = true;
    this.#forgetFormerLives(state);
  }

  /**
   * A static key belongs to one process. When the peer shows another one, its earlier process is gone, and with it all
   * that was under its keys: what still goes there would wait in vain.
   */
  #forgetFormerLives(newer: GenerationState): void {
    for (const state of [...this.#states.values()]) {
      if (state === newer) return;
      if (state.generation.peerStatic !== newer.generation.peerStatic) this.#forget(state);
    }
  }

  #take(state: GenerationState, message: LinkControlMessage, via: ControlVia): void {
    const udp = this.#udp.get(state.generation.id)!;
    switch (message.t) {
      case "open":
        if (message.proto === "udp") udp.openByPeer(message);
        else this.opens.openByPeer(state, message);
        break;
      case "refused":
        state.openers.get(message.id)?.refused(message.attempt, message.code);
        udp.pathEnded(message.id);
        break;
      case "cancel":
        state.answerers.get(message.id)?.cancel(message.attempt);
        udp.pathEnded(message.id);
        break;
      case "flow":
        udp.flowByPeer(message);
        break;
      case "flowOk":
        udp.flowKnown(message.flow);
        break;
      case "flowRefused":
        udp.flowRefused(message.flow, message.code);
        break;
      case "flowEnd":
        udp.flowEnded(message.flow);
        break;
      case "udpWanted":
        udp.wanted();
        break;
      case "rekey":
        this.#answerRekey(state, message.handshake);
        break;
      case "rekeyed":
        this.#finishRekey(message.handshake);
        break;
      case "ping":
        this.#answerVia(state.control.seal({ t: "pong", n: message.n }), via);
        break;
      case "pong":
        if (via === this.#direct?.control) this.#pongAt = performance.now();
        break;
    }
  }

  #answerVia(frame: Buffer, via: ControlVia): void {
    if (via === "ist") this.#host.sendViaIst(this, frame);
    else if (via === "isb") this.#host.sendViaIsb(this, frame);
    else via.send(frame);
  }

  /** Asks the direct control connection for a sign of life; without one within 2 s it is given up. */
  checkDirect(): void {
    const { newest } = this;
    const control = this.#direct?.control;
    if (!control || !newest) return;
    const asked = performance.now();
    this.#sendPing(control);
    setTimeout(() => {
      if (this.#pongAt < asked) control.close();
    }, DIRECT_PONG_MS).unref();
  }

  #sendPing(connection: ControlConnection): void {
    const { newest } = this;
    if (newest) connection.send(newest.control.seal({ t: "ping", n: this.#pings++ }));
  }

  #directChanged(): void {
    const next = this.#nextDirect;
    if (next && !this.#direct?.isUp) {
      this.setDirect(next.isDialler, next.addresses);
      return;
    }
    if (!this.#direct?.isUsable && this.#direct?.isDialler && !this.#ist) this.#host.needAllocation(this);
    const { newest } = this;
    // A peer that does not hold these keys any more says so, and nothing has to wait until an open fails.
    if (newest && !this.#direct?.isUp) this.tell(newest, { t: "ping", n: this.#pings++ });
    this.opens.retry();
  }

  #hintKeysLost(generation: string): void {
    const now = performance.now();
    if (!this.#states.has(generation) || now - this.#keysLostAt < KEYS_LOST_EVERY_MS) return;
    this.#keysLostAt = now;
    this.#host.keysLost(this);
  }

  // Rekey

  #rekeyIfOld(now: number): void {
    const state = this.newest;
    if (state?.generation.role !== 0 || now - state.generation.created < REKEY_AFTER_MS) return;
    if (this.#rekeying && now - this.#rekeying.since < GENERATION_GRACE_MS) return;
    const initiator = new Initiator(this.#rekeyContext(state));
    this.#rekeying = { initiator, since: now };
    this.tell(state, { t: "rekey", handshake: initiator.message.toString("base64url") });
  }

  #answerRekey(state: GenerationState, handshake: string): void {
    try {
      const answer = respond(this.#rekeyContext(state), Buffer.from(handshake, "base64url"), performance.now());
      if (answer.peer !== this.peer) throw new IsthmusError("peer-key-changed");
      this.addGeneration(answer.generation);
      this.tell(state, { t: "rekeyed", handshake: answer.message.toString("base64url") });
    } catch (error) {
      this.#logger.warn({ err: error }, "the peer's rekey was refused");
    }
  }

  #finishRekey(handshake: string): void {
    const { initiator } = this.#rekeying ?? {};
    this.#rekeying = undefined;
    if (!initiator) return;
    try {
      const { peer, generation } = initiator.finish(Buffer.from(handshake, "base64url"), performance.now());
      if (peer !== this.peer) throw new IsthmusError("peer-key-changed");
      this.addGeneration(generation);
    } catch (error) {
      this.#logger.warn({ err: error }, "the answer to the rekey was refused");
    }
  }

  #rekeyContext(state: GenerationState) {
    return {
      identity: this.#identity,
      staticKey: this.#staticKey,
      requestId: state.generation.id,
      subject: "rekey",
    };
  }

  // Ends

  /** Ends everything of one subscription. @param code why, as far as the peer still hears it */
  endSubscription(subscription: string, code: Code): void {
    this.opens.end({ subscription }, code);
    for (const session of this.#udp.values()) session.end(subscription);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#housekeeping);
    clearInterval(this.#pinger);
    this.opens.end({}, "shutting-down");
    this.#dialer.close();
    this.#direct?.close();
    for (const session of this.#udp.values()) session.close();
    this.#udp.clear();
    this.#states.clear();
  }

  #forget(state: GenerationState): void {
    const { id } = state.generation;
    this.opens.end({ generation: id }, "unknown-generation");
    this.#states.delete(id);
    this.#udp.get(id)?.close();
    this.#udp.delete(id);
  }

  #tidy(): void {
    const now = performance.now();
    this.#rekeyIfOld(now);
    this.#ist?.tidy();
    const { newest } = this;
    const old = [...this.#states.values()].filter(
      (state) => state !== newest && now - state.generation.created > GENERATION_GRACE_MS && this.#isIdle(state),
    );
    for (const state of old.slice(0, Math.max(0, this.#states.size - KEPT_GENERATIONS))) this.#forget(state);
  }

  #isIdle(state: GenerationState): boolean {
    return (
      state.openers.size === 0 && state.answerers.size === 0 && (this.#udp.get(state.generation.id)?.isIdle ?? true)
    );
  }

  #istOf(allocation: string): IstMeeting | undefined {
    return [this.#ist, this.#formerIst].find((meeting) => meeting?.offer.allocation === allocation);
  }

  // UDP of one generation

  #createUdp(state: GenerationState): UdpSession {
    const { generation } = state;
    const link = this;
    return new UdpSession({
      generation,
      sockets: this.#sockets,
      get allocation() {
        return link.#ist?.offer.allocation;
      },
      peerOpens: state.peerOpens,
      peerFlows: state.peerFlows,
      nextOpenId: () => state.nextOpenId(),
      nextFlowId: () => state.nextFlowId(),
      tell: (message) => this.tell(state, message),
      choose: (onStream) => this.#chooseUdp(onStream),
      settled: (rendezvous, failed) => {
        if (rendezvous.at === "cell") {
          this.#istOf(rendezvous.allocation)?.settled(rendezvous, "udp", failed ? "failed" : "joined");
        }
        if (failed) this.#host.suspect(this);
      },
      carry: (path, rendezvous, events) => this.#carry(generation, path, rendezvous, events),
      admit: (meaning) => this.#host.admit(this, { ...meaning, proto: "udp", plain: false }),
      refused: (subscription, code) => this.#host.flowRefused(this, subscription, code),
      count: (event) => this.#host.count(event),
    });
  }

  #needPlace(): void {
    if (!this.#direct?.isExpected) this.#host.needAllocation(this);
  }

  #chooseUdp(onStream: boolean): Rendezvous | undefined {
    if (this.#direct?.isUp && !onStream) return { at: "direct" };
    if (!this.#ist) {
      this.#needPlace();
      return this.#direct?.isUp ? { at: "direct" } : undefined;
    }
    if (onStream) return { at: "stream", allocation: this.#ist.offer.allocation };
    return this.#ist.chooseUdp();
  }

  #carry(
    generation: Generation,
    path: UdpPath,
    rendezvous: Rendezvous,
    events: CarrierEvents,
  ): DatagramCarrier | undefined {
    if (rendezvous.at === "direct") return this.#carryDirect(generation, path, events);
    const meeting = this.#istOf(rendezvous.allocation);
    if (!meeting) throw new IsthmusError("unknown-allocation");
    if (rendezvous.at === "cell") {
      const address = rendezvous.mode === "passive" ? meeting.cellAddress(rendezvous.cell) : undefined;
      if (!address) throw new IsthmusError("unsupported-rendezvous");
      return this.#sockets.connect(address, events);
    }
    const socket = connectTo(meeting.streamAddress(Math.floor(path.id / 2)));
    socket.once("connect", () => {
      socket.write(meeting.legHeader({ generation: generation.id, openId: path.id, attempt: 0 }));
      events.ready();
    });
    return streamCarrier(socket, events);
  }

  /** The dialler shows its leg header until the peer has answered; the other side waits for it at the leg port. */
  #carryDirect(generation: Generation, path: UdpPath, events: CarrierEvents): DatagramCarrier | undefined {
    const { direct } = this;
    if (!direct) throw new IsthmusError("no-path");
    const { address } = direct;
    if (!direct.isDialler) return undefined;
    if (!address) throw new IsthmusError("no-path");
    const header = { kind: "leg", side: generation.role, allocation: NO_ID, generation: generation.id } as const;
    const preamble = encodeLegHeader({ ...header, openId: path.id, attempt: 0 }, generation.directKey);
    const carrier = this.#sockets.connect(address, events);
    return {
      send: (datagram) => {
        if (!path.wasUp) carrier.send(preamble);
        carrier.send(datagram);
      },
      close: () => carrier.close(),
    };
  }
}

import type { Socket } from "node:net";
import { encodeLegHeader, type HostPort, NO_ID } from "@isthmus/protocol";
import type { Generation } from "../keys/generation.ts";
import { connectTo } from "./connect.ts";
import { ControlConnection } from "./control-connection.ts";

/** A direct connect that takes longer than this has failed. */
const CONNECT_TIMEOUT_MS = 3000;
/** Waiting time before the control connection is dialled again, doubling up to the limit. */
const REDIAL_FIRST_MS = 250;
const REDIAL_MOST_MS = 30_000;
/** Connections that may wait for their proof; whoever saw a header on its way can show it again. */
const MOST_UNPROVED = 8;
/** Legs that fail in a row, though the control connection stands, before other places are used for so long. */
const LEG_FAILURES = 2;
const AVOID_MS = 30_000;
/** Both sides are told at the same time, and one may hear of it first: so long no other place is asked for. */
const EXPECT_MS = 1000;
const EXPECTING_REDIAL_MS = 50;

export interface DirectMeetingOptions {
  /** Whether this side dials (the peer is the reachable one). */
  isDialler: boolean;
  /** Where the peer's leg port is; empty where the peer dials. */
  addresses: HostPort[];
  generation: () => Generation | undefined;
  /** A control frame came; the receiver calls {@link DirectMeeting.prove} when it was the peer's. */
  frame: (frame: Buffer, connection: ControlConnection) => void;
  /** Seals a ping for a connection that stands but is not proved. */
  ping: (connection: ControlConnection) => void;
  /** The control connection is proved, or gone, or could not be made, or did not come in time. */
  changed: () => void;
}

/**
 * A peer that is reached directly, or reaches this side directly, without an IST. The dialler keeps one control
 * connection; legs are further connections to the same leg port.
 */
export class DirectMeeting {
  readonly #options: DirectMeetingOptions;
  #control: ControlConnection | undefined;
  /** Stand, but nothing sealed by the peer came on them yet: they may be anybody's. They end by these timers. */
  readonly #unproved = new Map<ControlConnection, NodeJS.Timeout>();
  #dialling: Socket | undefined;
  #redial: NodeJS.Timeout | undefined;
  #redialMs = REDIAL_FIRST_MS;
  #address = 0;
  #legFailures = 0;
  #avoidUntil = 0;
  /** Runs while the first connection may be on its way. */
  #expecting: NodeJS.Timeout | undefined;
  #closed = false;
  /** The peer could not be reached since the last success. */
  failed = false;

  constructor(options: DirectMeetingOptions) {
    this.#options = options;
    this.#expecting = setTimeout(() => this.#expectNoMore(), EXPECT_MS);
  }

  get isDialler(): boolean {
    return this.#options.isDialler;
  }

  isSame(isDialler: boolean, addresses: HostPort[]): boolean {
    return isDialler === this.isDialler && JSON.stringify(addresses) === JSON.stringify(this.#options.addresses);
  }

  get isUp(): boolean {
    return this.#control !== undefined;
  }

  /** Whether an open can meet here: the dialler may try at once, the other side needs the control connection. */
  get isUsable(): boolean {
    if (this.#closed || performance.now() < this.#avoidUntil) return false;
    return this.isUp || (this.isDialler && !this.failed);
  }

  /** Whether the peer is about to dial: whoever needs a place to meet is told by `changed` when it has, or when it has not. */
  get isExpected(): boolean {
    return !this.isDialler && this.#expecting !== undefined;
  }

  /** The peer's leg port. */
  get address(): HostPort | undefined {
    const { addresses } = this.#options;
    return addresses[this.#address % Math.max(1, addresses.length)];
  }

  /** Dials the control connection, where this side is the dialler and none is there. */
  start(): void {
    clearTimeout(this.#redial);
    if (this.isDialler && !this.#control && this.#unproved.size === 0 && !this.#dialling) this.#dial();
  }

  /** The connection that control messages take. */
  get control(): ControlConnection | undefined {
    return this.#control;
  }

  send(frame: Buffer): boolean {
    return this.#control?.send(frame) ?? false;
  }

  /** The peer dialled; its connection takes the place of the older one when it is proved. */
  accept(socket: Socket): void {
    this.#use(socket);
  }

  /** Something that only the peer can have sealed came on this connection. */
  prove(connection: ControlConnection): void {
    if (!this.#forgetUnproved(connection)) return;
    const older = this.#control;
    this.#control = connection;
    this.#stopExpecting();
    older?.close();
    this.failed = false;
    this.#redialMs = REDIAL_FIRST_MS;
    this.#options.changed();
  }

  /** A leg met here, or did not: after two that did not, in a row, other places are used for a while. */
  legSettled(joined: boolean): void {
    if (joined) {
      this.#legFailures = 0;
      return;
    }
    this.#address++;
    if (!this.isUp) this.failed = true;
    if (++this.#legFailures < LEG_FAILURES) return;
    this.#legFailures = 0;
    this.#avoidUntil = performance.now() + AVOID_MS;
    this.#options.changed();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#redial);
    this.#stopExpecting();
    this.#dialling?.destroy();
    this.#control?.close();
    this.#control = undefined;
    for (const connection of [...this.#unproved.keys()]) {
      this.#forgetUnproved(connection);
      connection.close();
    }
  }

  #stopExpecting(): void {
    clearTimeout(this.#expecting);
    this.#expecting = undefined;
  }

  #expectNoMore(): void {
    this.#stopExpecting();
    // A dialler goes on, and says so when that fails.
    if (!this.isDialler) this.#options.changed();
  }

  #dial(): void {
    const generation = this.#options.generation();
    const { address } = this;
    if (this.#closed || !generation || !address) return;
    const socket = connectTo(address);
    this.#dialling = socket;
    const timer = setTimeout(() => socket.destroy(), CONNECT_TIMEOUT_MS);
    const failed = (): void => {
      clearTimeout(timer);
      this.#dialling = undefined;
      this.#dialFailed();
    };
    socket.once("close", failed);
    socket.on("error", () => undefined);
    socket.once("connect", () => {
      clearTimeout(timer);
      socket.off("close", failed);
      this.#dialling = undefined;
      const header = { kind: "control", side: generation.role, allocation: NO_ID, generation: generation.id } as const;
      socket.write(encodeLegHeader({ ...header, openId: 0, attempt: 0 }, generation.directKey));
      this.#options.ping(this.#use(socket));
    });
  }

  #dialFailed(): void {
    if (this.#closed) return;
    this.#address++;
    if (this.#expecting) {
      // Without the keys the peer's leg port refuses.
      clearTimeout(this.#redial);
      this.#redial = setTimeout(() => this.start(), EXPECTING_REDIAL_MS);
      return;
    }
    if (!this.isUp) this.failed = true;
    this.#options.changed();
    if (this.#closed) return;
    clearTimeout(this.#redial);
    this.#redial = setTimeout(() => this.start(), this.#redialMs);
    this.#redialMs = Math.min(this.#redialMs * 2, REDIAL_MOST_MS);
  }

  #use(socket: Socket): ControlConnection {
    const connection: ControlConnection = new ControlConnection(socket, {
      frame: (frame) => this.#options.frame(frame, connection),
      closed: () => this.#lost(connection),
    });
    const oldest = this.#unproved.keys().next().value;
    if (oldest && this.#unproved.size >= MOST_UNPROVED) {
      this.#forgetUnproved(oldest);
      oldest.close();
    }
    this.#unproved.set(
      connection,
      setTimeout(() => connection.close(), CONNECT_TIMEOUT_MS),
    );
    return connection;
  }

  /** @returns whether it was one of them */
  #forgetUnproved(connection: ControlConnection): boolean {
    clearTimeout(this.#unproved.get(connection));
    return this.#unproved.delete(connection);
  }

  #lost(connection: ControlConnection): void {
    const wasUnproved = this.#forgetUnproved(connection);
    if (connection === this.#control) this.#control = undefined;
    else if (!wasUnproved) return;
    // Another one that stands, or is about to, makes up for it.
    if (this.#control || this.#unproved.size > 0 || this.#dialling || this.#closed) return;
    if (this.isDialler) this.#dialFailed();
    else this.#options.changed();
  }
}

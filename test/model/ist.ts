import { CellRendezvous, type RendezvousCommand, StreamRendezvous } from "@isthmus/datapath";
import type { Clock, Random } from "./clock.ts";

/** What the network does to connections. */
export interface NetworkKnobs {
  /** One-way delay between a host and the IST, milliseconds: least and most. */
  delayMs: [number, number];
  /** Probability that a SYN is lost (and comes again after 1 s, as TCP does). */
  synLoss: number;
  /** Probability that a SYN never arrives, nor any of its retransmissions. */
  blackHole: number;
  /** Probability that an established connection is cut at some moment; what is under way is lost. */
  cut: number;
  /** Probability that a reset is lost, so that the IST goes on believing in the leg. */
  resetLoss: number;
  /** A data path in the kernel answers a SYN only when it has both; sockets in user space answer at once. */
  answersLate: boolean;
  halfMs: number;
  /** Probability that the port of a leg at a pure cell is of no use to its peer: the IST's host has it. */
  portHeld: number;
  /** Probability that a NAT changes the source port that a leg to a pure cell must have. */
  portChanged: number;
}

/** After this a dead peer whose reset was lost is noticed by TCP itself. */
const KEEP_ALIVE_MS = 15_000;

export interface LegUser {
  up(): void;
  data(chunk: Buffer): void;
  end(): void;
  lost(): void;
}

/** `port` is where a leg goes that meets one whose source port was learned. */
export type Meeting = { cell: number; side: 0 | 1; port?: number } | { stream: string; side: 0 | 1 };

/** One TCP connection between a host and the IST. Bytes arrive in order, or not at all behind a cut. */
export class Connection {
  readonly id: number;
  readonly meeting: Meeting;
  readonly #ist: Ist;
  readonly #user: LegUser;
  peer: Connection | undefined;
  /** Arrived at the IST before there was a peer. */
  readonly waiting: (Buffer | "end")[] = [];
  state: "connecting" | "waiting" | "paired" | "closed" = "connecting";
  #isUp = false;
  #userGone = false;
  #lastUp = 0;
  #lastDown = 0;

  constructor(id: number, ist: Ist, meeting: Meeting, user: LegUser) {
    this.id = id;
    this.#ist = ist;
    this.meeting = meeting;
    this.#user = user;
  }

  // From the host

  send(what: Buffer | "end"): void {
    if (this.#userGone) return;
    this.#uplink(() => this.#ist.received(this, what));
  }

  reset(): void {
    if (this.#userGone) return;
    this.#userGone = true;
    if (this.#ist.random.chance(this.#ist.knobs.resetLoss))
      this.#ist.clock.after(KEEP_ALIVE_MS, () => this.#ist.closed(this));
    else this.#uplink(() => this.#ist.closed(this));
  }

  // From the IST

  answer(): void {
    this.#downlink(() => {
      if (this.#isUp) return;
      this.#isUp = true;
      this.#user.up();
    });
  }

  deliver(what: Buffer | "end"): void {
    this.#downlink(() => {
      if (what === "end") this.#user.end();
      else this.#user.data(Buffer.from(what));
    });
  }

  /** A reset by the IST or by the network. */
  cut(): void {
    this.#downlink(() => {
      this.#userGone = true;
      this.#user.lost();
    });
  }

  #uplink(run: () => void): void {
    this.#lastUp = Math.max(this.#lastUp, this.#ist.clock.now + this.#ist.delay());
    this.#ist.clock.at(this.#lastUp, run);
  }

  #downlink(run: () => void): void {
    this.#lastDown = Math.max(this.#lastDown, this.#ist.clock.now + this.#ist.delay());
    this.#ist.clock.at(this.#lastDown, () => {
      if (!this.#userGone) run();
      // A host answers what belongs to no connection of it with a reset.
      else this.#uplink(() => this.#ist.closed(this));
    });
  }
}

/** An IST around the real rendezvous tables. */
export class Ist {
  readonly clock: Clock;
  readonly random: Random;
  readonly knobs: NetworkKnobs;
  readonly cells: CellRendezvous[];
  readonly #passive: number;
  /** Of pure cells, the port that was learned last. */
  readonly #learned = new Map<number, number>();
  /** Tells a side's daemon that a leg of the other waits at a pure cell. */
  onHalf: (side: 0 | 1, cell: number, port: number | undefined) => void = () => undefined;
  #streams = new StreamRendezvous();
  #connections = new Map<number, Connection>();
  #ids = 0;

  /** Cells have their openers' numbers, even and odd; pure ones come behind the passive ones. */
  constructor(clock: Clock, random: Random, knobs: NetworkKnobs, cells: { passive: number; pure: number }) {
    this.clock = clock;
    this.random = random;
    this.knobs = knobs;
    this.#passive = cells.passive;
    this.cells = Array.from({ length: cells.passive + cells.pure }, () => new CellRendezvous(knobs.halfMs));
  }

  isPure(cell: number): boolean {
    return cell >= this.#passive;
  }

  delay(): number {
    const [least, most] = this.knobs.delayMs;
    return this.random.between(least, most);
  }

  connect(meeting: Meeting, user: LegUser): Connection {
    const connection = new Connection(this.#ids++, this, meeting, user);
    const { blackHole, synLoss, cut } = this.knobs;
    if (this.random.chance(blackHole)) return connection;
    const late = this.random.chance(synLoss) ? 1000 : 0;
    this.clock.after(late + this.delay(), () => this.#arrived(connection));
    if (this.random.chance(cut)) this.clock.after(this.random.between(1, 3000), () => this.#cutByNetwork(connection));
    return connection;
  }

  received(connection: Connection, what: Buffer | "end"): void {
    if (connection.state === "closed") return;
    if (connection.peer) connection.peer.deliver(what);
    else connection.waiting.push(what);
  }

  closed(connection: Connection): void {
    if (connection.state === "closed") return;
    connection.state = "closed";
    this.#connections.delete(connection.id);
    const { meeting } = connection;
    if ("cell" in meeting) this.cells[meeting.cell]!.gone(meeting.side, connection.id);
    else this.#streams.gone(meeting.stream, connection.id);
    if (connection.peer) this.#end(connection.peer);
  }

  /** The control plane is killed: all that it holds is gone, its ports are the same afterwards. */
  restart(): void {
    for (const connection of [...this.#connections.values()]) this.#end(connection);
    for (let n = 0; n < this.cells.length; n++) this.cells[n] = new CellRendezvous(this.knobs.halfMs);
    this.#streams = new StreamRendezvous();
  }

  /** Legs that wait for a peer. */
  get unpaired(): number {
    return this.cells.filter((cell) => cell.waits(0) || cell.waits(1)).length + this.#streams.size;
  }

  #arrived(connection: Connection): void {
    if (connection.state === "closed") return;
    const { meeting } = connection;
    const isPure = "cell" in meeting && this.isPure(meeting.cell);
    if (isPure && !this.#mayJoin(meeting)) {
      connection.cut();
      this.closed(connection);
      return;
    }
    connection.state = "waiting";
    this.#connections.set(connection.id, connection);
    // Who passes ports unchanged is no end of the connection, and has nothing to answer by itself.
    if (!this.knobs.answersLate && !isPure) connection.answer();
    const { now } = this.clock;
    if ("cell" in meeting) {
      const cell = this.cells[meeting.cell]!;
      if (isPure) this.#learn(meeting.cell, meeting.side, connection.id);
      this.#run(cell.arrive(meeting.side, connection.id, now));
      this.clock.after(this.knobs.halfMs, () => this.#run(cell.expire(this.clock.now)));
    } else {
      this.#run(this.#streams.arrive(meeting.stream, meeting.side, connection.id, now));
      this.clock.after(10_000, () => this.#run(this.#streams.expire(this.clock.now)));
    }
  }

  /** At a pure cell the opener's legs come from any port, those of the other side go to the one that was learned. */
  #mayJoin({ cell, side, port }: Extract<Meeting, { cell: number }>): boolean {
    if (side === cell % 2) return true;
    return port !== undefined && port === this.#learned.get(cell) && !this.random.chance(this.knobs.portChanged);
  }

  #learn(cell: number, side: 0 | 1, port: number): void {
    if (side !== cell % 2) return;
    const isHeld = this.random.chance(this.knobs.portHeld);
    if (!isHeld) this.#learned.set(cell, port);
    this.onHalf(side === 0 ? 1 : 0, cell, isHeld ? undefined : port);
  }

  #run(commands: RendezvousCommand[]): void {
    for (const command of commands) {
      if (command.do === "end") {
        const connection = this.#connections.get(command.leg);
        if (connection) this.#end(connection);
        continue;
      }
      const [a, b] = command.legs.map((leg) => this.#connections.get(leg)) as [Connection, Connection];
      for (const [one, other] of [
        [a, b],
        [b, a],
      ] as const) {
        one.peer = other;
        one.state = "paired";
        one.answer();
        for (const what of one.waiting.splice(0)) other.deliver(what);
      }
    }
  }

  #end(connection: Connection): void {
    if (connection.state === "closed") return;
    connection.cut();
    this.closed(connection);
  }

  /** Half of the cuts look like a clean end, as a hostile relay would make them. */
  #cutByNetwork(connection: Connection): void {
    if (connection.state === "closed") return;
    if (this.random.chance(0.5)) {
      connection.deliver("end");
      connection.peer?.deliver("end");
    } else connection.cut();
    this.closed(connection);
  }
}

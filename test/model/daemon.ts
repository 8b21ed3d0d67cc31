import {
  AnswererStream,
  CellPool,
  type Endpoint,
  type Generation,
  HalfPorts,
  IdWindow,
  type Leg,
  type LegOutcome,
  OpenerStream,
  type Stream,
  type StreamEnvironment,
  type StreamMessage,
} from "@isthmus/link";
import type { Code, Rendezvous } from "@isthmus/protocol";
import type { Clock, Random } from "./clock.ts";
import type { Connection, Ist, Meeting } from "./ist.ts";

const ALLOCATION = "00000000000000aa";

/** What an application said and heard on one connection, and how it ended. */
export interface App {
  /** All that it will say. */
  says: Buffer;
  hears: Buffer[];
  heardEnd: boolean;
  reset: boolean;
  endedWith: Code | undefined;
  joined: number;
  /** Joined where ports pass unchanged. */
  isPure: boolean;
}

/** A daemon: the real streams, cells and id window, with simulated connections around them. */
export class Daemon implements StreamEnvironment {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #ist: Ist;
  readonly #side: 0 | 1;
  readonly #halfMs: number;
  readonly #send: (message: StreamMessage, generation: string) => void;
  generation: Generation | undefined;
  #pool: CellPool;
  #halves: HalfPorts;
  #window = new IdWindow();
  #nextId = 0;
  readonly #openers = new Map<string, OpenerStream>();
  readonly #answerers = new Map<string, AnswererStream>();
  readonly #wakes = new Map<Stream, () => void>();
  readonly apps = new Map<Stream, App>();
  /** Every application connection that ever was here, by `generation:id`. */
  readonly history = new Map<string, App>();
  alive = true;
  serviceDown = 0;

  constructor(options: {
    clock: Clock;
    random: Random;
    ist: Ist;
    side: 0 | 1;
    halfMs: number;
    send: (message: StreamMessage, generation: string) => void;
  }) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#ist = options.ist;
    this.#side = options.side;
    this.#halfMs = options.halfMs;
    this.#send = options.send;
    this.#pool = this.#freshPool();
    this.#halves = new HalfPorts(options.halfMs);
  }

  #freshPool(): CellPool {
    const pool = new CellPool(this.#side, this.#halfMs);
    pool.update(
      this.#ist.cells.map((_, cell) => {
        const port = 20_000 + cell;
        if (!this.#ist.isPure(cell)) return { cell, port };
        // The opener comes from any port, which the other side learns.
        return this.#isOwn(cell) ? { cell, port, pure: {} } : { cell, port: 0, pure: { source: port } };
      }),
    );
    return pool;
  }

  #isOwn(cell: number): boolean {
    return cell % 2 === this.#side;
  }

  /** The IST's word of a leg that waits. */
  half(cell: number, port: number | undefined): void {
    this.#halves.tell(cell, port, this.#clock.now);
  }

  useGeneration(generation: Generation): void {
    this.generation = generation;
    this.#window = new IdWindow();
    this.#nextId = generation.role;
  }

  /** The process dies: connections are reset, memory is gone. */
  restart(): void {
    for (const stream of [...this.#openers.values(), ...this.#answerers.values()]) {
      const app = this.apps.get(stream);
      if (app && !app.endedWith) app.reset = true;
    }
    for (const connection of this.#connections) connection.reset();
    for (const cancel of this.#wakes.values()) cancel();
    this.#connections.clear();
    this.#wakes.clear();
    this.#openers.clear();
    this.#answerers.clear();
    this.apps.clear();
    this.#pool = this.#freshPool();
    this.#halves = new HalfPorts(this.#halfMs);
  }

  readonly #connections = new Set<Connection>();

  /** An application connects and says `says`, some of it later. */
  open(says: Buffer): App {
    const generation = this.generation!;
    const openId = this.#nextId;
    this.#nextId += 2;
    const app: App = { says, hears: [], heardEnd: false, reset: false, endedWith: undefined, joined: 0, isPure: false };
    const stream = new OpenerStream(this, {
      generation,
      openId,
      plain: false,
      open: { proto: "tcp", channel: "tcp", opener: "subscriber" },
      timeoutMs: 1000,
      choose: (attempt) => this.#choose(attempt),
      carriesOpen: () => false,
    });
    this.#openers.set(`${generation.id}:${openId}`, stream);
    this.#attach(stream, app)();
    stream.start();
    return app;
  }

  #choose(attempt: number): Rendezvous | undefined {
    const now = this.#clock.now;
    const pure = attempt === 0 ? this.#pool.take("tcp", now, true) : undefined;
    if (pure !== undefined) return { at: "cell", allocation: ALLOCATION, cell: pure, mode: "pure" };
    const cell = attempt < 2 ? this.#pool.take("tcp", now) : undefined;
    if (cell === undefined) return { at: "stream", allocation: ALLOCATION };
    return { at: "cell", allocation: ALLOCATION, cell, mode: "passive" };
  }

  /** A control message of the peer, under a generation that this daemon may not hold any more. */
  receive(message: StreamMessage, generationId: string): void {
    const generation = this.generation;
    if (generation?.id !== generationId) return;
    const key = `${generationId}:${message.id}`;
    switch (message.t) {
      case "refused":
        this.#openers.get(key)?.refused(message.attempt, message.code);
        break;
      case "cancel":
        this.#answerers.get(key)?.cancel(message.attempt);
        break;
      case "open": {
        let stream = this.#answerers.get(key);
        if (!stream) {
          if (!this.#window.take(message.id)) {
            this.tell(
              undefined,
              { t: "refused", id: message.id, attempt: message.attempt, code: "repeated-open" },
              generation,
            );
            return;
          }
          stream = new AnswererStream(this, { generation, openId: message.id, plain: message.plain, timeoutMs: 1000 });
          this.#answerers.set(key, stream);
          const says = Buffer.from(`service of ${key} `.repeat(this.#random.between(0, 40)));
          const app: App = {
            says,
            hears: [],
            heardEnd: false,
            reset: false,
            endedWith: undefined,
            joined: 0,
            isPure: false,
          };
          const answerer = stream;
          const start = this.#attach(stream, app);
          const isDown = this.#random.chance(this.serviceDown);
          this.#clock.after(this.#random.between(0, 80), () => {
            // The daemon may be another process by now.
            if (this.#answerers.get(key) !== answerer) return;
            if (isDown) answerer.serviceFailed("service-down");
            else {
              answerer.serviceConnected();
              start();
            }
          });
        }
        stream.open(message.attempt, message.rendezvous);
      }
    }
  }

  /** @returns what makes the application speak */
  #attach(stream: Stream, app: App): () => void {
    const key = `${stream.generation.id}:${stream.openId}`;
    if (this.history.has(key)) throw new Error(`two applications of one id: ${key}`);
    this.history.set(key, app);
    this.apps.set(stream, app);
    let paused = false;
    let sent = 0;
    const endpoint: Endpoint = {
      write: (chunk) => {
        if (app.heardEnd) throw new Error("bytes behind the end");
        app.hears.push(Buffer.from(chunk));
        return true;
      },
      end: () => {
        app.heardEnd = true;
      },
      reset: () => {
        app.reset = true;
      },
      close: () => undefined,
      pause: () => {
        paused = true;
      },
      resume: () => {
        paused = false;
      },
    };
    stream.attach(endpoint);
    const step = (): void => {
      if (app.reset || stream.isOver) return;
      if (!paused) {
        const chunk = app.says.subarray(sent, sent + this.#random.between(1, 200));
        sent += chunk.length;
        if (chunk.length > 0) stream.appData(Buffer.from(chunk));
        if (sent >= app.says.length) {
          stream.appEnd();
          return;
        }
      }
      this.#clock.after(this.#random.between(0, 100), step);
    };
    return () => void this.#clock.after(this.#random.between(0, 50), step);
  }

  // StreamEnvironment

  now(): number {
    return this.#clock.now;
  }

  wake(stream: Stream, at: number | undefined): void {
    this.#wakes.get(stream)?.();
    this.#wakes.delete(stream);
    if (at !== undefined)
      this.#wakes.set(
        stream,
        this.#clock.at(at, () => stream.tick()),
      );
  }

  dial(stream: Stream, leg: Leg): void {
    const { rendezvous } = leg;
    const side = this.#side;
    if (rendezvous.at === "direct") throw new Error("no direct legs here");
    if (rendezvous.at === "stream") {
      this.#connect(leg, { stream: `${stream.generation.id}:${stream.openId}:${leg.attempt}`, side });
      return;
    }
    const { cell, mode } = rendezvous;
    if (mode === "passive" || this.#isOwn(cell)) {
      this.#connect(leg, { cell, side });
      return;
    }
    const go = (port: number | undefined): void => {
      if (leg.isDropped) return;
      if (port === undefined) leg.lost("unsupported-rendezvous");
      else this.#connect(leg, { cell, side, port });
    };
    const told = this.#halves.take(cell, this.#clock.now);
    if (told) this.#clock.after(0, () => go(told.port));
    else this.#halves.wait(cell, go);
  }

  #connect(leg: Leg, meeting: Meeting): void {
    const isPure = leg.rendezvous.at === "cell" && leg.rendezvous.mode === "pure";
    const connection: Connection = this.#ist.connect(meeting, {
      up: () =>
        leg.up({
          write: (chunk) => {
            connection.send(Buffer.from(chunk));
            return true;
          },
          end: () => connection.send("end"),
          reset: (later) => {
            this.#clock.after(later ? 1000 : 0, () => {
              this.#connections.delete(connection);
              connection.reset();
            });
          },
          close: () => undefined,
          pause: () => undefined,
          resume: () => undefined,
        }),
      data: (chunk) => leg.data(chunk),
      end: () => leg.end(),
      lost: () => leg.lost(isPure && !leg.stood ? "unsupported-rendezvous" : "leg-lost"),
    });
    this.#connections.add(connection);
  }

  tell(stream: Stream | undefined, message: StreamMessage, generation = stream?.generation): void {
    this.#send(message, generation!.id);
  }

  settled(stream: Stream, rendezvous: Rendezvous, outcome: LegOutcome): void {
    if (outcome === "joined") {
      const app = this.apps.get(stream)!;
      app.joined++;
      app.isPure = rendezvous.at === "cell" && rendezvous.mode === "pure";
    }
    if (rendezvous.at === "cell" && rendezvous.cell % 2 === this.#side) {
      this.#pool.give(rendezvous.cell, "tcp", this.#clock.now, outcome !== "joined");
    }
  }

  ended(stream: Stream, code: Code): void {
    const app = this.apps.get(stream);
    if (app) app.endedWith = code;
    this.apps.delete(stream);
    const key = `${stream.generation.id}:${stream.openId}`;
    this.#openers.delete(key);
    if (stream instanceof AnswererStream) this.#answerers.delete(key);
  }
}

import type { Logger } from "@isthmus/service";
import type { Redis } from "ioredis";
import type { Change } from "../watchers.ts";
import { retryDelay } from "./connect.ts";
import { decodeChange } from "./scripts.ts";

interface Options {
  dial(): Redis;
  channel: string;
  /** The keyspace's newest version. */
  clock(): Promise<number>;
  logger: Logger;
  changed(change: Change): void;
  /** A new subscription stands: what came between the old one and it was not seen. */
  resync(): void;
}

/**
 * The subscription to all changes of a keyspace. Redis' pub/sub loses messages silently (between the nodes of a
 * cluster, at a failover), so each names the version before it: when one is missing the feed subscribes anew, and the
 * one way of telling "something was lost" is `resync`.
 */
export class ChangeFeed {
  readonly #options: Options;
  #connection: Redis | undefined;
  #subscribed: boolean = false;
  #redial: NodeJS.Timeout | undefined;
  #attempts = 0;
  #closed: boolean = false;
  #problem = "not connected";
  /** Version of the newest change that came, or that the last `resync` covers. */
  #seen = 0;
  /** The keyspace's clock at the last `compareWith`. What it counted should have come since. */
  #due = 0;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Why changes do not come at the moment, or undefined when they do. */
  get problem(): string | undefined {
    return this.#subscribed ? undefined : this.#problem;
  }

  /** Resolves when the first subscription stands, rejects when that attempt fails. */
  async start(): Promise<void> {
    await this.#connect();
  }

  /** Called from time to time with the keyspace's clock: notices a loss that no later message shows. */
  compareWith(clock: number): void {
    if (this.#subscribed && this.#seen < this.#due) this.#startAgain("changes did not come");
    this.#due = clock;
  }

  /** A subscriber hears nothing in quiet times; only an answer shows that the connection lives. */
  async ping(): Promise<void> {
    if (this.#subscribed) await this.#connection!.ping();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#redial);
    this.#leave();
  }

  async #connect(): Promise<void> {
    const connection = this.#options.dial();
    this.#connection = connection;
    this.#seen = 0;
    connection.on("error", (error: Error) => {
      this.#problem = error.message;
    });
    connection.on("message", (_channel: string, message: string) => this.#received(connection, message));
    connection.once("end", () => {
      if (connection === this.#connection) this.#startAgain(this.#problem);
    });
    try {
      await connection.connect();
      await connection.subscribe(this.#options.channel);
      const clock = await this.#options.clock();
      if (connection !== this.#connection) return;
      // Whoever scans now finds what was written so far; what is written from here on must come.
      this.#seen = Math.max(this.#seen, clock);
    } catch (error) {
      // A connection that stands but may not subscribe does not end by itself.
      if (connection === this.#connection) this.#startAgain((error as Error).message);
      throw error;
    }
    this.#subscribed = true;
    this.#attempts = 0;
    this.#due = 0;
    this.#options.resync();
  }

  #received(connection: Redis, message: string): void {
    if (connection !== this.#connection) return;
    const { before, ...change } = decodeChange(message);
    if (this.#subscribed && change.version > this.#seen && before !== this.#seen) {
      this.#startAgain("a change was lost");
      return;
    }
    this.#seen = Math.max(this.#seen, change.version);
    this.#options.changed(change);
  }

  #startAgain(why: string): void {
    if (this.#subscribed) this.#options.logger.warn({ why }, "the store's subscription is renewed");
    this.#problem = why;
    this.#leave();
    if (this.#closed) return;
    clearTimeout(this.#redial);
    this.#redial = setTimeout(
      () => {
        // The failure is in `problem`, and the next attempt is arranged.
        this.#connect().catch(() => undefined);
      },
      retryDelay(this.#attempts++),
    );
  }

  #leave(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#subscribed = false;
    connection?.disconnect();
  }
}

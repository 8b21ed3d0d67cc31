import type { Code, Rendezvous } from "@isthmus/protocol";
import type { LegStream } from "../leg/leg-stream.ts";
import { Answerer, type AnswererCommand } from "./answerer.ts";
import { type Endpoint, type Leg, Stream, type StreamEnvironment, type StreamSpec } from "./stream.ts";

/** The side whose service is connected to, at the same time as the leg. */
export class AnswererStream extends Stream {
  readonly #answerer: Answerer;
  #isServiceUp = false;

  constructor(env: StreamEnvironment, options: StreamSpec & { timeoutMs: number }) {
    super(env, options);
    this.#answerer = new Answerer(env.now(), options.timeoutMs);
  }

  /** An open message of this id; the caller has checked the right to open. */
  open(attempt: number, rendezvous: Rendezvous): void {
    this.#run(this.#answerer.open(attempt, rendezvous, this.env.now()));
  }

  /**
   * An open that came as the first record of a direct leg, whose connection and preface are there already.
   * @returns the leg that takes everything further, nothing when the attempt is not wanted
   */
  take(attempt: number, rendezvous: Rendezvous, codec: LegStream, endpoint: Endpoint): Leg | undefined {
    const commands = this.#answerer.open(attempt, rendezvous, this.env.now());
    const isWanted = commands.some((command) => command.do === "dial");
    this.#run(commands.filter((command) => command.do !== "dial"));
    if (!isWanted) return undefined;
    const leg = this.newLeg(attempt, rendezvous, codec);
    leg.up(endpoint);
    this.onPreface(leg);
    return leg;
  }

  cancel(attempt: number): void {
    this.#run(this.#answerer.cancel(attempt));
  }

  /** The service took its connection: a leg that waits for that may begin, and be joined. */
  serviceConnected(): void {
    this.#isServiceUp = true;
    const { leg } = this;
    if (leg?.stood) super.legUp(leg);
    if (leg?.codec.prefaced) this.onPreface(leg);
  }

  /** Nothing is sent before the service stands: a dead one must never look like a joined open. */
  override legUp(leg: Leg): void {
    if (this.#isServiceUp) super.legUp(leg);
  }

  /** The service refused its connection. */
  serviceFailed(code: Code): void {
    this.#run(this.#answerer.serviceLost(code));
  }

  override tick(): void {
    this.#run(this.#answerer.tick(this.env.now()));
  }

  /** Without its service an open is not joined: the opener may still try again, on another leg. */
  protected override onPreface(leg: Leg): void {
    if (this.#isServiceUp) this.#run(this.#answerer.prefaceValid(leg.attempt));
  }

  protected override onUnprovedLegLost(leg: Leg, code: Code): void {
    const cannotMeet = code === "unsupported-rendezvous" || code === "unknown-allocation" || code === "no-path";
    this.#run(cannotMeet ? this.#answerer.cannotMeet(leg.attempt, code) : this.#answerer.legLost(leg.attempt));
  }

  protected override onAppLostUnproved(code: Code): void {
    this.#run(this.#answerer.serviceLost(code === "application-reset" ? "service-down" : code));
  }

  #run(commands: AnswererCommand[]): void {
    for (const command of commands) {
      switch (command.do) {
        case "dial":
          this.env.dial(this, this.newLeg(command.attempt, command.rendezvous));
          break;
        case "drop":
          this.dropLeg(command.outcome, command.later);
          break;
        case "join":
          this.env.settled(this, command.rendezvous, "joined");
          this.join();
          break;
        case "refuse":
          this.env.tell(this, { t: "refused", id: this.openId, attempt: command.attempt, code: command.code });
          break;
        case "end":
          this.giveUp(command.code);
          break;
      }
    }
    if (!this.isOver) this.env.wake(this, this.#answerer.wakeAt);
  }
}

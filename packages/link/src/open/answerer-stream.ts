import type { Code, Rendezvous } from "@isthmus/protocol";
import { Answerer, type AnswererCommand } from "./answerer.ts";
import { type Leg, Stream, type StreamEnvironment, type StreamSpec } from "./stream.ts";

/** The side whose service is connected to, at the same time as the leg. */
export class AnswererStream extends Stream {
  readonly #answerer: Answerer;

  constructor(env: StreamEnvironment, options: StreamSpec & { timeoutMs: number }) {
    super(env, options);
    this.#answerer = new Answerer(env.now(), options.timeoutMs);
  }

  /** An open message of this id; the caller has checked the right to open. */
  open(attempt: number, rendezvous: Rendezvous): void {
    this.#run(this.#answerer.open(attempt, rendezvous, this.env.now()));
  }

  cancel(attempt: number): void {
    this.#run(this.#answerer.cancel(attempt));
  }

  /** The service refused its connection. */
  serviceFailed(code: Code): void {
    this.#run(this.#answerer.serviceLost(code));
  }

  cannotMeet(leg: Leg, code: Code): void {
    this.#run(this.#answerer.cannotMeet(leg.attempt, code));
  }

  override tick(): void {
    this.#run(this.#answerer.tick(this.env.now()));
  }

  protected override onPreface(leg: Leg): void {
    this.#run(this.#answerer.prefaceValid(leg.attempt));
  }

  protected override onUnprovedLegLost(leg: Leg): void {
    this.#run(this.#answerer.legLost(leg.attempt));
  }

  protected override onAppLostUnproved(): void {
    this.#run(this.#answerer.serviceLost("service-down"));
  }

  #run(commands: AnswererCommand[]): void {
    for (const command of commands) {
      switch (command.do) {
        case "dial":
          this.env.dial(this, this.newLeg(command.attempt, command.rendezvous));
          break;
        case "drop":
          this.dropLeg();
          this.env.settled(this, command.rendezvous, false);
          break;
        case "join":
          this.env.settled(this, command.rendezvous, true);
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

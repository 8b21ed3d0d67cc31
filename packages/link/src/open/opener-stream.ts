import type { Code, Rendezvous } from "@isthmus/protocol";
import { Opener, type OpenerCommand } from "./opener.ts";
import { type Leg, type OpenMessage, Stream, type StreamEnvironment, type StreamSpec } from "./stream.ts";

export interface OpenerStreamOptions extends StreamSpec {
  /** Everything of the open message that does not change between attempts. */
  open: Omit<OpenMessage, "t" | "id" | "attempt" | "rendezvous" | "plain">;
  timeoutMs: number;
  choose: (attempt: number) => Rendezvous | undefined;
  /** Whether the leg itself carries the open message as its first record: a sealed direct leg that this side dials. */
  carriesOpen: (rendezvous: Rendezvous) => boolean;
}

/** The side whose application connected. */
export class OpenerStream extends Stream {
  readonly #opener: Opener;
  readonly #options: OpenerStreamOptions;
  /** The leg of the present attempt brings the open message along. */
  #legCarriesOpen = false;

  constructor(env: StreamEnvironment, options: OpenerStreamOptions) {
    super(env, options);
    this.#options = options;
    this.#opener = new Opener(env.now(), options.timeoutMs, options.choose);
  }

  start(): void {
    this.tick();
  }

  override tick(): void {
    this.#run(this.#opener.tick(this.env.now()));
  }

  /** A path came up. */
  retry(): void {
    this.#run(this.#opener.retry(this.env.now()));
  }

  refused(attempt: number, code: Code): void {
    this.#run(this.#opener.refused(attempt, code, this.env.now()));
  }

  protected override onPreface(leg: Leg): void {
    this.#run(this.#opener.prefaceValid(leg.attempt));
  }

  protected override onUnprovedLegLost(leg: Leg, code: Code): void {
    this.#run(this.#opener.legLost(leg.attempt, this.env.now(), code));
  }

  protected override onAppLostUnproved(code: Code): void {
    this.#run(this.#opener.abandon(code));
  }

  protected override opening(leg: Leg): Buffer[] {
    const preface = leg.codec.preface();
    return this.#legCarriesOpen ? [preface, leg.codec.open(this.#message(leg.attempt, leg.rendezvous))] : [preface];
  }

  #message(attempt: number, rendezvous: Rendezvous): OpenMessage {
    return { t: "open", id: this.openId, attempt, rendezvous, plain: this.plain, ...this.#options.open };
  }

  #run(commands: OpenerCommand[]): void {
    for (const command of commands) {
      switch (command.do) {
        case "announce":
          this.#legCarriesOpen = this.#options.carriesOpen(command.rendezvous);
          if (!this.#legCarriesOpen) {
            this.env.tell(this, this.#message(command.attempt, command.rendezvous));
          }
          break;
        case "dial":
          this.env.dial(this, this.newLeg(command.attempt, command.rendezvous));
          break;
        case "drop":
          this.dropLeg(command.outcome);
          break;
        case "cancel":
          this.env.tell(this, { t: "cancel", id: this.openId, attempt: command.attempt });
          break;
        case "join":
          this.env.settled(this, command.rendezvous, "joined");
          this.join();
          break;
        case "fail":
          this.giveUp(command.code);
          break;
      }
    }
    if (!this.isOver) this.env.wake(this, this.#opener.wakeAt);
  }
}

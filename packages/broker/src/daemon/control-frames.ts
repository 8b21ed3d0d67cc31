import { addressedFrame, CONTROL_FRAME_MAX_BYTES, DEVICE_PREFIX_BYTES } from "@isthmus/protocol";
import { type Rate, TokenBuckets } from "@isthmus/session";
import type { Pairs } from "../meeting/pairs.ts";
import type { DaemonSession, FindDaemon } from "./daemon-session.ts";

/** What became of a control frame; all but the first are dropped. */
export type ControlOutcome = "forwarded" | "malformed" | "not-joined" | "away" | "rate-limited";

/**
 * Control frames of links that have no better way yet: passed on unread, behind the sender's key in the place of the
 * receiver's, between two devices that a living subscription joins.
 */
export class ControlFrames {
  readonly #pairs: Pairs;
  readonly #daemons: FindDaemon;
  readonly #rate: TokenBuckets;
  readonly #count: (outcome: ControlOutcome) => void;

  constructor(options: {
    pairs: Pairs;
    daemons: FindDaemon;
    rate: Rate;
    count: (outcome: ControlOutcome) => void;
  }) {
    this.#pairs = options.pairs;
    this.#daemons = options.daemons;
    this.#rate = new TokenBuckets(options.rate);
    this.#count = options.count;
  }

  receive(session: DaemonSession, bytes: Buffer): void {
    this.#count(this.#pass(session, bytes));
  }

  #pass(session: DaemonSession, bytes: Buffer): ControlOutcome {
    const length = bytes.length - DEVICE_PREFIX_BYTES;
    if (length < 1 || length > CONTROL_FRAME_MAX_BYTES) return "malformed";
    if (this.#rate.take(session.key, performance.now()) > 0) return "rate-limited";
    const to = bytes.toString("base64url", 0, DEVICE_PREFIX_BYTES);
    if (to === session.key || !this.#pairs.areJoined(session.key, to)) return "not-joined";
    const receiver = this.#daemons(to);
    if (!receiver) return "away";
    receiver.binary(addressedFrame(Buffer.from(session.key, "base64url"), bytes.subarray(DEVICE_PREFIX_BYTES)));
    return "forwarded";
  }
}

import { ALLOCATION_PREFIX_BYTES, CONTROL_FRAME_MAX_BYTES } from "@isthmus/protocol";
import { TokenBuckets } from "@isthmus/session";
import { otherSide } from "../allocations/allocation.ts";
import type { Allocations } from "../allocations/allocations.ts";
import type { DaemonSession } from "./daemon-session.ts";

/** What became of a control frame; a label of its counter. */
export type ControlFrameOutcome = "relayed" | "peer-away" | "rate-limited" | "left" | "malformed" | "not-joined";

/** A side may send this many seconds' worth of its rate at once. */
const BURST_S = 2;

export interface ControlFramesOptions {
  allocations: Allocations;
  /** Frames per second of one side of an allocation. */
  perSecond: number;
  observe: (outcome: ControlFrameOutcome) => void;
}

/** Passes the sealed control messages of a link from one daemon to the other, unread. */
export class ControlFrames {
  readonly #options: ControlFramesOptions;
  readonly #rates: TokenBuckets;

  constructor(options: ControlFramesOptions) {
    this.#options = options;
    this.#rates = new TokenBuckets({ perSecond: options.perSecond, burst: options.perSecond * BURST_S });
  }

  /** @param frame the allocation's 8 bytes and the control frame; it arrives at the other side as it is */
  relay(session: DaemonSession, frame: Buffer): void {
    this.#options.observe(this.#relay(session, frame));
  }

  #relay(session: DaemonSession, frame: Buffer): ControlFrameOutcome {
    if (frame.length <= ALLOCATION_PREFIX_BYTES || frame.length > ALLOCATION_PREFIX_BYTES + CONTROL_FRAME_MAX_BYTES) {
      session.close("bad-message");
      return "malformed";
    }
    const id = frame.toString("hex", 0, ALLOCATION_PREFIX_BYTES);
    if (!session.context.joined.has(id)) {
      // The word that the allocation is over may be under way still.
      if (session.context.hasLeft(id)) return "left";
      session.close("not-joined");
      return "not-joined";
    }
    const allocation = this.#options.allocations.get(id)!;
    const side = allocation.sideOf(session.key)!;
    if (this.#rates.take(`${id} ${side}`, performance.now()) > 0) return "rate-limited";
    const peer = allocation.sessions[otherSide(side)];
    if (!peer) return "peer-away";
    peer.binary(frame);
    return "relayed";
  }
}

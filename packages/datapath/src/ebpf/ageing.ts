import type { IstReason, IstState } from "@isthmus/native/netlink";

/** Time-outs of TCP, which no allocation has of its own; milliseconds. */
export interface TcpTimes {
  /** After which a SYN-ACK is sent again the first time; each further time it is twice as long. */
  readonly synAckMs: number;
  /** That both ends may take to acknowledge theirs. */
  readonly synRcvdMs: number;
  /** That a splice is remembered whose ends have both sent FIN. */
  readonly timeWaitMs: number;
}

export const TCP_TIMES: TcpTimes = { synAckMs: 300, synRcvdMs: 60_000, timeWaitMs: 60_000 };

/** Milliseconds that each other state may last without a packet; those of the module, whose reasons hold here too. */
const MOST_MS: Readonly<Record<Exclude<IstState, "syn-rcvd" | "time-wait">, number>> = {
  listen: 0,
  "syn-lookup": 0,
  // RFC 5382, REQ-5: two hours and four minutes.
  established: 7_440_000,
  "close-wait": 7_440_000,
  closed: 10_000,
};

/** What an allocation holds a splice to, in milliseconds; 0 is no limit. */
export interface AgeLimits {
  readonly idleMs: number;
  readonly totalMs: number;
  readonly udpIdleMs: number;
}

/** What time does to a splice; times are milliseconds of one clock. */
export interface Ageing {
  readonly isUdp: boolean;
  readonly state: IstState;
  readonly isOver: boolean;
  readonly created: number;
  readonly heard: number;
}

/** When a splice ends if nothing happens on it, and why. Pure. */
export function endOf(
  { isUdp, state, isOver, created, heard }: Ageing,
  { idleMs, totalMs, udpIdleMs }: AgeLimits,
  times: TcpTimes = TCP_TIMES,
): { due: number; reason: IstReason } {
  const isUnanswered = !isUdp && state === "syn-rcvd";
  const end = {
    due: isUnanswered ? created + times.synRcvdMs : heard + (isUdp && !isOver ? udpIdleMs : mostMs(state, times)),
    reason: (isUnanswered ? "unanswered" : "idle-limit") as IstReason,
  };
  if (isOver) return end;
  if (idleMs > 0 && heard + idleMs < end.due) Object.assign(end, { due: heard + idleMs, reason: "idle-limit" });
  if (totalMs > 0 && created + totalMs < end.due) Object.assign(end, { due: created + totalMs, reason: "time-limit" });
  return end;
}

/** When a SYN-ACK is sent the next time, each time after twice as long. @param sent how often it was repeated */
export function nextSynAck(created: number, sent: number, { synAckMs }: TcpTimes = TCP_TIMES): number {
  return created + synAckMs * (2 ** (sent + 1) - 1);
}

function mostMs(state: IstState, { synRcvdMs, timeWaitMs }: TcpTimes): number {
  if (state === "syn-rcvd") return synRcvdMs;
  return state === "time-wait" ? timeWaitMs : MOST_MS[state];
}

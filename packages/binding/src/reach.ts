import { BlockList, isIPv4 } from "node:net";
import { type Code, type ProbeReport, type ProbeRequest, toIsthmusError } from "@isthmus/protocol";

/** What there is to say of a mapped port as the world sees it: a word for programs, and what it means. */
export const REACH_REASONS = {
  answered: { state: "yes", text: "a connection from outside came through" },
  "another-nat": { state: "no", text: "CGNAT or double NAT: another NAT is before the gateway" },
  refused: {
    state: "no",
    text: "connections from outside are turned away: the program does not listen, or something before it refuses",
  },
  "no-answer": {
    state: "no",
    text: "nothing answers from outside: a firewall is in the way, or CGNAT or double NAT that the gateway hides",
  },
  "not-yet": { state: "unknown", text: "it is looked from outside in a moment" },
  udp: { state: "unknown", text: "nobody but the program itself could answer a datagram from outside" },
  "no-address": { state: "unknown", text: "the gateway does not say its outer address" },
  ipv6: { state: "unknown", text: "the ISB sees this host by IPv6, and mappings are IPv4's" },
  "isb-inside": { state: "unknown", text: "the ISB is in a network of this host itself, and cannot look from outside" },
  off: { state: "unknown", text: "the configuration names no user daemon to ask" },
  "no-daemon": { state: "unknown", text: "no user daemon answers" },
  "no-isb": { state: "unknown", text: "the user daemon is not logged in at an ISB" },
  "isb-cannot": { state: "unknown", text: "the ISB cannot look from outside" },
  "rate-limited": { state: "unknown", text: "the ISB was asked as often as it may be" },
  failed: { state: "unknown", text: "the question came to no answer" },
} as const satisfies Record<string, { state: "yes" | "no" | "unknown"; text: string }>;
export type ReachReason = keyof typeof REACH_REASONS;

/** Whether the world gets through a mapping. */
export interface Reach {
  state: "yes" | "no" | "unknown";
  reason: ReachReason;
  /** For people. */
  message: string;
}

/** What was found out by asking once. */
export interface Finding {
  reach: Reach;
  /** It would be the same for every port. */
  isForAll: boolean;
}

export interface Question {
  protocol: "tcp" | "udp";
  port: number;
  /** The gateway's own outer address; undefined where it does not say. */
  address: string | undefined;
}

/** @throws IsthmusError why there is no answer; `disconnected` and `not-allowed` where nobody could be asked at all */
export type AskProbe = (request: ProbeRequest) => Promise<ProbeReport>;

/** RFC 1918, RFC 6598 (carriers' NATs), RFC 6333 (DS-Lite), RFC 3927, and this host itself. */
const NOT_PUBLIC = new BlockList();
for (const [network, bits] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 29],
  ["192.168.0.0", 16],
] as const) {
  NOT_PUBLIC.addSubnet(network, bits);
}

const REASON_OF_CODE: Partial<Record<Code, ReachReason>> = {
  disconnected: "no-daemon",
  "not-allowed": "no-daemon",
  "not-logged-in": "no-isb",
  "probes-off": "isb-cannot",
  "unknown-type": "isb-cannot",
  "rate-limited": "rate-limited",
};

const NOBODY_ASKED: ReadonlySet<ReachReason> = new Set(["no-daemon", "no-isb", "isb-cannot"]);

export function reachOf(reason: ReachReason, message: string = REACH_REASONS[reason].text): Reach {
  return { state: REACH_REASONS[reason].state, reason, message };
}

/**
 * Asks the ISB about a mapped port, and makes sense of the answer. What the gateway calls its own address decides first:
 * where the world sees this host at another one, no dial could tell this host's port from a neighbour's.
 */
export async function findReach({ protocol, port, address }: Question, ask: AskProbe): Promise<Finding> {
  if (address === undefined) return { reach: reachOf("no-address"), isForAll: true };
  try {
    const { address: seenAt, outcome } = await ask({ proto: protocol, port, address });
    return findingOf(outcome, address, seenAt);
  } catch (error) {
    const { code, message } = toIsthmusError(error);
    const reason = REASON_OF_CODE[code] ?? "failed";
    // An address that is not public needs nobody's word, unless an ISB has seen this host at the same one.
    if (NOBODY_ASKED.has(reason) && isNotPublic(address)) return { reach: anotherNat(address), isForAll: true };
    return { reach: reachOf(reason, `${REACH_REASONS[reason].text} (${message})`), isForAll: reason !== "failed" };
  }
}

function findingOf(outcome: ProbeReport["outcome"], address: string, seenAt: string): Finding {
  switch (outcome) {
    case "reachable":
      return { reach: reachOf("answered"), isForAll: false };
    case "refused":
      return { reach: reachOf("refused"), isForAll: false };
    case "timeout":
    case "unreachable":
      return { reach: reachOf("no-answer"), isForAll: false };
    case "unprovable":
      return { reach: reachOf("udp"), isForAll: false };
    case "other-address":
      return { reach: elsewhere(address, seenAt), isForAll: true };
  }
}

function elsewhere(address: string, seenAt: string): Reach {
  if (!isIPv4(seenAt)) return reachOf("ipv6");
  // A home's own ISB, or one by a VPN, comes past the gateway.
  if (isNotPublic(seenAt) && !isNotPublic(address)) {
    return reachOf("isb-inside", `${REACH_REASONS["isb-inside"].text}: it sees ${seenAt}`);
  }
  return anotherNat(address, seenAt);
}

function anotherNat(address: string, seenAt?: string): Reach {
  const seen = seenAt === undefined ? "" : `, and the ISB sees ${seenAt}`;
  const why = isNotPublic(address)
    ? `the gateway's own address ${address} is not a public one${seen}`
    : `the gateway's own address is ${address}${seen} (or this host goes out by another way, such as a VPN)`;
  return reachOf("another-nat", `CGNAT or double NAT: ${why}`);
}

function isNotPublic(address: string): boolean {
  return isIPv4(address) && NOT_PUBLIC.check(address);
}

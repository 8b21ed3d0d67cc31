import type { Families } from "./relay-topology.ts";

/**
 * Scripts of wire.c: what a splice does with each segment, whatever splices. Whoever runs them sets up a cell between ends
 * `a` and `b`, whose SYN-ACKs are not repeated unless a case's words say so.
 */

/** Both legs are there and were answered. */
const MEET = `
a > S seq 1000 opt mss=1400
b > S seq 5000 opt mss=1400
a < SA seq 5000 ack 1001
b < SA seq 1000 ack 5001`;

/** And each acknowledged the answer, which the other one gets to see. */
export const OPEN = `${MEET}
a > A seq 1001 ack 5001
b < A seq 1001 ack 5001
b > A seq 5001 ack 1001
a < A seq 5001 ack 1001`;

export const DATA_BOTH_WAYS = `
a > A seq 1001 ack 5001 len 100
b < A seq 1001 ack 5001 len 100
b > A seq 5001 ack 1101 len 60
a < A seq 5001 ack 1101 len 60`;

/** The same with both ends exchanged. */
function mirrored(script: string): string {
  return script.replace(/^[ab](?= )/gm, (end) => (end === "a" ? "b" : "a"));
}

/** Each case, and where it looks at nothing that differs between the ends, the same with both exchanged. */
export function bothWays(cases: readonly Case[]): Case[] {
  return cases.flatMap((each) =>
    each.isOneSided
      ? [each]
      : [each, { ...each, name: `${each.name} (ends exchanged)`, script: mirrored(each.script) }],
  );
}

/** A script of segments, and the state that the splice is in afterwards. */
export interface Case {
  readonly name: string;
  readonly script: string;
  readonly state?: string;
  readonly words?: string;
  /** It looks at what is between relay and end, which differs. */
  readonly isOneSided?: true;
}

export const CASES: readonly Case[] = [
  {
    name: "gives each end the other's number and window",
    script: `
a > S seq 1000 win 1111 opt mss=1400
a -
b > S seq 4294967295 win 2222 opt mss=1300
a < SA seq 4294967295 ack 1001 win 2222 opt mss=1300
b < SA seq 1000 ack 0 win 1111 opt mss=1400
a > A seq 1001 ack 0 win 77 len 10
b < A seq 1001 ack 0 win 77 len 10
b > A seq 0 ack 1011 len 20
a < A seq 0 ack 1011 len 20`,
    state: "established",
  },
  {
    name: "takes the newest clock of a SYN that comes again, and answers it before and after the connection is open",
    script: `
a > S seq 1000 opt mss=1400,ts=100:0
a > S seq 1000 opt mss=1400,ts=350:0
a -
b > S seq 5000 opt mss=1400,ts=900:0
a < SA seq 5000 ack 1001 opt mss=1400,ts=900:350
b < SA seq 1000 ack 5001 opt mss=1400,ts=350:900
a > S seq 1000 opt mss=1400,ts=400:0
a < SA seq 5000 ack 1001 opt mss=1400,ts=900:400
b > S seq 5000 opt mss=1400,ts=990:0
b < SA seq 1000 ack 5001 opt mss=1400,ts=400:990
a > A seq 1001 ack 5001
b < A seq 1001 ack 5001
b > A seq 5001 ack 1001
a < A seq 5001 ack 1001
a > S seq 1000 opt mss=1400,ts=500:0
a < SA seq 5000 ack 1001 opt mss=1400,ts=990:500
b -`,
    state: "established",
  },
  {
    name: "takes the options of a SYN that comes again while it waits",
    script: `
a > SEW seq 1000 opt mss=1400,sack,ts=1:0,ws=7
a > S seq 1000 opt mss=1400
a -
b > SEW seq 5000 opt mss=1400,sack,ts=2:0,ws=7
a < SA seq 5000 ack 1001 opt mss=1400
b < SA seq 1000 ack 5001 opt mss=1400`,
    state: "syn-rcvd",
  },
  {
    name: "lets the newer SYN win while none has come from the other side",
    script: `
a > S seq 1000 opt mss=1400
a > S seq 2000 opt mss=1400
a -
b > S seq 5000 opt mss=1400
a < SA seq 5000 ack 2001
b < SA seq 2000 ack 5001`,
    state: "syn-rcvd",
  },
  {
    name: "lets the newer SYN win before its sender acknowledged, and tells the other end",
    script: `${MEET}
a > S seq 2000 opt mss=1400
a -
b > A seq 5001 ack 1001
b < R seq 1001
b > S seq 6000 opt mss=1400 port 7777
b < SA seq 2000 ack 6001 port 7777
a < SA seq 6000 ack 2001`,
    state: "syn-rcvd",
  },
  {
    name: "drops another SYN of an open connection, which goes on",
    script: `${OPEN}
a > S seq 2000 opt mss=1400
b > S seq 6000 opt mss=1400
a -
b -${DATA_BOTH_WAYS}`,
    state: "established",
  },
  {
    name: "drops what is no SYN and not yet anything else",
    script: `
a > SF seq 1000
a > SA seq 1000 ack 1
a > SR seq 1000
a > S seq 1000 bad
b > S seq 5000 opt mss=1400
b -
a > S seq 1000 opt mss=1400
a < SA seq 5000 ack 1001
b < SA seq 1000 ack 5001
a > SA seq 1000 ack 5001
b > SA seq 5000 ack 1001
a > SF seq 1000
a -
b -`,
    state: "syn-rcvd",
  },
  {
    name: "forgets a leg that gives up by RST",
    script: `
a > S seq 1000 opt mss=1400
a > R seq 1001
b > S seq 5000 opt mss=1400
b -
a > S seq 1000 opt mss=1400
a < SA seq 5000 ack 1001
b < SA seq 1000 ack 5001`,
    state: "syn-rcvd",
  },
  {
    name: "passes the RST of one that gave up before its SYN-ACK came",
    script: `${MEET}
a > R seq 1001
b < R seq 1001`,
    state: "closed",
  },
  {
    name: "passes data of either end before any SYN-ACK was acknowledged by the other one",
    script: `${MEET}
a > PA seq 1001 ack 5001 len 300
b < PA seq 1001 ack 5001 len 300
a > FA seq 1301 ack 5001
b < FA seq 1301 ack 5001
b > A seq 5001 ack 1302 len 20
a < A seq 5001 ack 1302 len 20`,
    state: "close-wait",
  },
  {
    name: "does not acknowledge what comes with a SYN",
    script: `
a > S seq 1000 len 500 opt mss=1400,kind34
b > S seq 5000 opt mss=1400,kind34
a < SA seq 5000 ack 1001 opt mss=1400
b < SA seq 1000 ack 5001 opt mss=1400
a > A seq 1001 ack 5001 len 500
b < A seq 1001 ack 5001 len 500`,
    state: "syn-rcvd",
  },
  {
    name: "repeats a SYN-ACK after 0.3 and 0.6 s until it is acknowledged",
    words: "timeout syn-ack 300",
    script: `${MEET}
a < SA seq 5000 ack 1001
b < SA seq 1000 ack 5001
a < SA seq 5000 ack 1001
b < SA seq 1000 ack 5001
a > A seq 1001 ack 5001
b < A seq 1001 ack 5001
b > A seq 5001 ack 1001
a < A seq 5001 ack 1001
a - 2000
b -`,
    state: "established",
  },
  {
    name: "resets both ends when an answer is not acknowledged in time",
    words: "timeout syn-ack 60000 timeout syn-rcvd 800",
    script: `${MEET}
a > A seq 1001 ack 5001 len 9
b < A seq 1001 ack 5001 len 9
a < RA seq 5001 ack 1001
b < RA seq 1010 ack 5001`,
  },
  {
    name: "passes options, flags and hops of an open connection as they are",
    script: `${OPEN}
a > APUEW seq 1001 ack 5001 len 100 ttl 30 opt ts=7:8
b < APUEW seq 1001 ack 5001 len 100 ttl 28 opt ts=7:8
b > A seq 5001 ack 1101 ttl 3 opt kind30
a < A seq 5001 ack 1101 ttl 1 opt kind30`,
    state: "established",
  },
  {
    name: "tells the sender of a packet that has no hop left",
    script: `${OPEN}
a > A seq 1001 ack 5001 len 100 ttl 1
a < icmp 11 0 seq 1001 port 7000
b -${DATA_BOTH_WAYS}`,
    state: "established",
    isOneSided: true,
  },
  {
    name: "refuses only what is beyond a FIN, and repeats what was lost, to the last acknowledgment",
    script: `${OPEN}
a > FA seq 1001 ack 5001 len 10
b < FA seq 1001 ack 5001 len 10
b > A seq 5001 ack 1012 len 20
a < A seq 5001 ack 1012 len 20
a > A seq 1012 ack 5021
b < A seq 1012 ack 5021
a > A seq 1012 ack 5021 len 5
b -
a > FA seq 1001 ack 5021 len 10
b < FA seq 1001 ack 5021 len 10
b > A seq 5021 ack 1012 len 500
a < A seq 5021 ack 1012 len 500
b > FA seq 5521 ack 1012
a < FA seq 5521 ack 1012
a > A seq 1012 ack 5522
b < A seq 1012 ack 5522
b > FA seq 5521 ack 1012
a < FA seq 5521 ack 1012
a > A seq 1012 ack 5522
b < A seq 1012 ack 5522`,
    state: "time-wait",
  },
  {
    name: "passes FINs that cross, and lets the same four numbers be used again at once",
    script: `${OPEN}
a > FA seq 1001 ack 5001
b > FA seq 5001 ack 1001
a < FA seq 5001 ack 1001
b < FA seq 1001 ack 5001
a > A seq 1002 ack 5002
b < A seq 1002 ack 5002
b > A seq 5002 ack 1002
a < A seq 5002 ack 1002
a > S seq 90000 opt mss=1400
a -
b > S seq 95000 opt mss=1400
a < SA seq 95000 ack 90001
b < SA seq 90000 ack 95001
a > A seq 90001 ack 95001 len 3
b < A seq 90001 ack 95001 len 3
b > A seq 95001 ack 90004
a < A seq 95001 ack 90004`,
    state: "established",
  },
  {
    name: "passes a RST, and knows that the connection is over",
    script: `${OPEN}
a > R seq 1001
b < R seq 1001`,
    state: "closed",
  },
  {
    name: "is not ended by a RST out of the window",
    script: `${OPEN}
a > R seq 300000000
b < R seq 300000000
b > RA seq 4000000000 ack 1001
a < RA seq 4000000000 ack 1001`,
    state: "established",
  },
  {
    name: "goes on after a forged RST in the window, which its receiver answers by asking back (RFC 5961)",
    script: `${OPEN}
a > R seq 1101
b < R seq 1101
b > A seq 5001 ack 1001
a < A seq 5001 ack 1001
a > A seq 1001 ack 5001 len 200
b < A seq 1001 ack 5001 len 200
b > A seq 5001 ack 1201
a < A seq 5001 ack 1201`,
    state: "established",
  },
  {
    name: "passes windows of zero, probes and keep-alives",
    script: `${OPEN}
b > A seq 5001 ack 1001 win 0
a < A seq 5001 ack 1001 win 0
a > A seq 1000 ack 5001
b < A seq 1000 ack 5001
b > A seq 5001 ack 1001 win 0
a < A seq 5001 ack 1001 win 0
a > A seq 1001 ack 5001 len 1
b < A seq 1001 ack 5001 len 1
b > A seq 5001 ack 1001 win 900
a < A seq 5001 ack 1001 win 900
a > A seq 1001 ack 5001 len 900
b < A seq 1001 ack 5001 len 900`,
    state: "established",
  },
  {
    name: "passes a wrong checksum as a wrong one, so that the receiver refuses it",
    script: `${OPEN}
a > A seq 1001 ack 5001 len 100 bad
b < A seq 1001 ack 5001 len 100 bad${DATA_BOTH_WAYS}`,
    state: "established",
  },
  {
    name: "forgets a leg whose peer does not come in time",
    words: "timeout half 500",
    script: `
a > S seq 1000 opt mss=1400
wait 5000
b > S seq 5000 opt mss=1400
b -
a -`,
  },
  {
    name: "keeps the newest of several legs of one side",
    script: `
a > S seq 1000 opt mss=1400 port 9001
a > S seq 1000 opt mss=1400 port 9002
a -
b > S seq 5000 opt mss=1400
a < SA seq 5000 ack 1001 port 9002
b < SA seq 1000 ack 5001`,
    state: "syn-rcvd",
  },
  {
    name: "passes datagrams as soon as both sides have sent one, and none of another port",
    script: `
a > udp len 10
b -
b > udp len 20
a < udp len 20
a > udp len 0
b < udp len 0
a > udp len 30 port 9001
b -
b > udp len 1200 ttl 40
a < udp len 1200 ttl 38`,
    state: "established",
  },
  {
    name: "tells the sender of a datagram of errors on the other side",
    script: `
a > udp len 10
b > udp len 10
a < udp len 10
a > udp len 40
b < udp len 40
b > icmp 3 3
a < icmp 3 3`,
    state: "established",
  },
];

/** What both offer, and what each is told. */
export const OFFERS: readonly [name: string, a: string, b: string, toA: string, toB: string][] = [
  [
    "everything",
    "S opt mss=1400,sack,ts=10:0,ws=7",
    "S opt mss=1300,ts=20:0,sack,ws=14",
    "SA opt mss=1300,sack,ts=20:10,ws=14",
    "SA opt mss=1400,sack,ts=10:20,ws=7",
  ],
  [
    "no timestamps at one",
    "S opt mss=1400,sack,ws=7",
    "S opt mss=1400,sack,ts=20:0,ws=3",
    "SA opt mss=1400,sack,ws=3",
    "SA opt mss=1400,sack,ws=7",
  ],
  [
    "no SACK at one",
    "S opt mss=1400,ts=10:0,ws=7",
    "S opt mss=1400,sack,ts=20:0,ws=3",
    "SA opt mss=1400,ts=20:10,ws=3",
    "SA opt mss=1400,ts=10:20,ws=7",
  ],
  [
    "no window scale at one",
    "S opt mss=1400,sack,ts=10:0",
    "S opt mss=1400,sack,ts=20:0,ws=3",
    "SA opt mss=1400,sack,ts=20:10",
    "SA opt mss=1400,sack,ts=10:20",
  ],
  ["nothing in common", "S opt sack", "S opt mss=1400,ws=3", "SA opt mss=1400", "SA opt mss=536"],
  ["more than the routes carry", "S opt mss=9000", "S opt mss=1461", "SA opt mss=1460", "SA opt mss=1460"],
  [
    "a window scale that is too large",
    "S opt mss=1400,ws=20",
    "S opt mss=1400,ws=0",
    "SA opt mss=1400,ws=0",
    "SA opt mss=1400,ws=14",
  ],
  ["ECN at both", "SEW opt mss=1400", "SEW opt mss=1400", "SAE opt mss=1400", "SAE opt mss=1400"],
  ["ECN at one", "SEW opt mss=1400", "S opt mss=1400", "SA opt mss=1400", "SA opt mss=1400"],
  ["half of ECN", "SE opt mss=1400", "SEW opt mss=1400", "SA opt mss=1400", "SA opt mss=1400"],
  ["Fast Open", "S opt mss=1400,kind34", "S opt mss=1400,kind34", "SA opt mss=1400", "SA opt mss=1400"],
  ["MPTCP", "S opt kind30,mss=1400", "S opt mss=1400,kind30", "SA opt mss=1400", "SA opt mss=1400"],
  ["a signature (RFC 2385)", "S opt mss=1400,kind19", "S opt mss=1400,kind19", "SA opt mss=1400", "SA opt mss=1400"],
];

/**
 * An error about a packet of `a`'s as it comes from beyond `b`, and as `a` hears of it. The "MTU" of a parameter problem
 * is where it points.
 */
export const ERRORS: readonly [families: Families, sent: string, heard: string][] = [
  [[4, 4], "3 1", "3 1"],
  [[4, 4], "3 3", "3 3"],
  [[4, 4], "3 13", "3 13"],
  [[4, 4], "3 4 mtu 1200", "3 4 mtu 1200"],
  [[4, 4], "11 0", "11 0"],
  [[4, 4], "12 0 mtu 335544320", "12 0 mtu 335544320"],
  [[6, 6], "1 0", "1 0"],
  [[6, 6], "1 4", "1 4"],
  [[6, 6], "2 0 mtu 1290", "2 0 mtu 1290"],
  [[6, 6], "3 0", "3 0"],
  [[6, 6], "4 0 mtu 6", "4 0 mtu 6"],
  [[4, 6], "1 4", "3 3"],
  [[4, 6], "1 0", "3 1"],
  [[4, 6], "2 0 mtu 1300", "3 4 mtu 1280"],
  [[4, 6], "3 0", "11 0"],
  [[4, 6], "4 1 mtu 6", "3 2 mtu 0"],
  [[6, 4], "3 3", "1 4"],
  [[6, 4], "3 1", "1 0"],
  [[6, 4], "3 4 mtu 1300", "2 0 mtu 1320"],
  [[6, 4], "11 0", "3 0"],
];

/** Both offer something, in either order, and each is told what both have. */
export function offerScripts([, a, b, toA, toB]: (typeof OFFERS)[number]): [string, string] {
  const numbered = (words: string, numbers: string): string => words.replace(/^\w+/, (flags) => `${flags} ${numbers}`);
  const script = (first: string, second: string): string => `
${first}
${second}
a < ${numbered(toA, "seq 5000 ack 1001")}
b < ${numbered(toB, "seq 1000 ack 5001")}`;
  const [fromA, fromB] = [`a > ${numbered(a, "seq 1000")}`, `b > ${numbered(b, "seq 5000")}`];
  return [script(fromA, fromB), script(fromB, fromA)];
}

/** An error about what `a` sent comes, and one about what nobody could have sent. */
export function errorScript([, sent, heard]: (typeof ERRORS)[number]): string {
  return `${OPEN}
a > A seq 1001 ack 5001 len 100
b < A seq 1001 ack 5001 len 100
b > icmp ${sent}
a < icmp ${heard} seq 1001 port 7000
b > icmp ${sent} seq 900000000
a -
b > A seq 5001 ack 1101
a < A seq 5001 ack 1101`;
}

/** What is refused, once each: of an open connection a stray SYN, a reset far off, a hop limit, and what is beyond a FIN. */
export const REFUSED = `${OPEN}
a > S seq 7000
a > R seq 300000000
b < R seq 300000000
a > A seq 1001 ttl 1
a < icmp 11 0
a > FA seq 1001 ack 5001
b < FA seq 1001 ack 5001
a > A seq 1002 ack 5001 len 1
b -`;

/** A connection from its first segment to its last. */
export const WHOLE = `${OPEN}${DATA_BOTH_WAYS}
a > FA seq 1101 ack 5061
b < FA seq 1101 ack 5061
b > FA seq 5061 ack 1102
a < FA seq 5061 ack 1102
a > A seq 1102 ack 5062
b < A seq 1102 ack 5062`;

/**
 * Datagrams with all that a checksum can be.
 * @param hasUnsummed also one of IPv4 that has none, which IPv6 must have
 */
export function sumsScript(families: Families, hasUnsummed = families[0] === 4): string {
  const unsummed = hasUnsummed ? `a > udp len 9 sum 0\nb < udp len 9${families[1] === 4 ? " sum 0" : ""}` : "";
  // A sum of zero looks different from none.
  return `
a > udp len 10
b > udp len 10
a < udp len 10
a > udp len 101
b < udp len 101
a > udp len 20 cancel
b < udp len 20 sum 65535
b > udp len 33 cancel
a < udp len 33 sum 65535
${unsummed}`;
}

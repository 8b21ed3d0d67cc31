import type { IstMeeting, Link } from "@isthmus/link";
import { fingerprintOf, formatHostPort, type LocalApiReply, type StatusReport } from "@isthmus/protocol";

type PathReport = LocalApiReply<"status">["subscriptions"][number]["tcp"];

/** What became of Pure Splices at an IST. */
const PURE_OUTCOMES = {
  used: "ports pass unchanged",
  avoided: "connections did not meet where ports pass unchanged; tried again later",
  none: "neither side's NAT keeps its ports, or the IST has no Pure Splice",
} as const satisfies Record<IstMeeting["pure"], string>;

const NONE: PathReport = { path: "none", detail: "no link yet", tried: [] };

/** Which way streams and datagrams of a link take, and why not another. */
export function reportPaths(link: Link | undefined): { tcp: PathReport; udp: PathReport } {
  if (!link) return { tcp: NONE, udp: NONE };
  const tried = triedOf(link);
  return { tcp: { ...tcpPath(link), tried }, udp: { ...udpPath(link), tried } };
}

/** A link: which way its control messages take, and where its legs meet. */
export function reportLink(link: Link, isIsbUp: boolean): StatusReport["links"][number] {
  const { peer, ist, direct, newest } = link;
  return {
    fingerprint: fingerprintOf(peer),
    ...(newest ? { generation: newest.generation.id } : {}),
    control: direct?.isUp ? "direct" : ist?.joined && ist.peerJoined ? "ist" : isIsbUp ? "isb" : "none",
    ...(ist ? { allocation: ist.offer.allocation, ist: ist.offer.ist.name } : {}),
    cells: ist?.cells ?? [],
    udp: reportPaths(link).udp,
    connections: link.size,
    splices: link.opens.splices(),
  };
}

function tcpPath(link: Link): Omit<PathReport, "tried"> {
  const { direct, ist } = link;
  if (direct?.isUsable) {
    const detail = direct.isDialler
      ? `this side connects to ${formatHostPort(direct.address!)}`
      : "the peer connects to this side";
    return { path: "direct", detail };
  }
  if (!ist) return { path: "none", detail: "no place to meet yet" };
  const { name, addresses } = ist.offer.ist;
  if (!ist.joined)
    return { path: "stream", detail: `stream endpoint of IST ${name} at ${addresses[0]}; not joined yet` };
  if (!ist.peerJoined) return { path: "stream", detail: `stream endpoint of IST ${name}; the peer has not joined yet` };
  if (ist.avoidsCells) {
    return { path: "stream", detail: `stream endpoint of IST ${name}; connections did not meet at its cells` };
  }
  const mode = ist.pure === "used" ? "Pure" : "Passive";
  return { path: "cell", detail: `IST ${name}, cells ${ist.cells.join(", ")} (${mode} Splices)` };
}

function udpPath(link: Link): Omit<PathReport, "tried"> {
  const path = link.udpPath;
  if (!path) return { path: "none", detail: "opened when a datagram is sent" };
  const rtt = path.health.rttMs === undefined ? "" : `, ${Math.round(path.health.rttMs)} ms`;
  const detail = `${path.health.bytes} bytes pass unsplit${rtt}`;
  if (path.rendezvous.at === "stream") {
    return { path: "stream", detail: `${detail}; datagrams ride on TCP since nothing else passes: expect delays` };
  }
  return { path: path.rendezvous.at, detail };
}

function triedOf(link: Link): PathReport["tried"] {
  const { direct, ist } = link;
  const tried: PathReport["tried"] = [];
  if (direct) {
    tried.push({
      path: "direct",
      outcome: direct.isUp ? "control connection up" : direct.failed ? "could not connect" : "not tried yet",
    });
  } else tried.push({ path: "direct", outcome: "neither side proved reachable" });
  if (ist) tried.push({ path: "ist", outcome: ist.joined ? "joined" : "not joined" });
  if (ist?.joined && ist.peerJoined) tried.push({ path: "pure", outcome: PURE_OUTCOMES[ist.pure] });
  return tried;
}

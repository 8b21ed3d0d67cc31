import type {
  IstAlloc,
  IstCell,
  IstLeg,
  IstLimits,
  IstReason,
  IstSources,
  IstSplice,
  IstStats,
  IstTimeouts,
} from "@isthmus/native/netlink";
import type { AllocationLimits, Code, HostPort, Side, Transport } from "@isthmus/protocol";
import {
  type CellPorts,
  type DataPathStats,
  type ExpectedSources,
  type FanoutCell,
  isPacketDrop,
  type PacketDrop,
  type SpliceDump,
} from "../data-path.ts";
import { ipBytes, ipText } from "./ip-bytes.ts";

/** Both are 64 bits. */
export function kernelId(allocation: string): bigint {
  return BigInt(`0x${allocation}`);
}

export function allocationOf(id: bigint): string {
  return id.toString(16).padStart(16, "0");
}

/** @param sources prefixes, as protocol's `sourcePrefix` makes them */
export function kernelSources(sources: ExpectedSources): IstSources {
  return {
    source: sources.flatMap((prefixes, side) =>
      prefixes.map((prefix) => {
        const [address = "", bits] = prefix.split("/");
        return { side, address: ipBytes(address), ...(bits === undefined ? {} : { prefix: Number(bits) }) };
      }),
    ),
  };
}

export function kernelLimits({ splices, idleMs, totalMs, bytes, bytesPerSecond }: AllocationLimits): IstLimits {
  return {
    splices,
    idle: BigInt(idleMs),
    total: BigInt(totalMs),
    bytes: BigInt(bytes),
    rate: BigInt(bytesPerSecond),
  };
}

/** The kernel takes no less. */
const LEAST_TIMEOUT_MS = 10;

export function kernelTimeouts({ halfMs }: AllocationLimits, udpIdleMs: number): IstTimeouts {
  return { half: halfMs, udp: Math.max(LEAST_TIMEOUT_MS, Math.round(udpIdleMs)) };
}

export function kernelCell({ cell, ports: [port0, port1], pure, fanout }: CellPorts): IstCell {
  if (fanout) return { number: cell, mode: "fanout", port0, port1, ...kernelFanout(fanout) };
  if (!pure) return { number: cell, mode: "passive", port0, port1 };
  // The side that comes from any port has 0 for a source port, as the other has for its own until that is learned.
  return { number: cell, mode: "pure", port0, port1, remotePort0: port1, remotePort1: port0 };
}

function kernelFanout({ receivers, group }: FanoutCell): IstCell {
  if (!group) return { maxReceivers: receivers };
  const { host, port, ifindex = 0 } = group;
  return { maxReceivers: receivers, group: ipBytes(host), groupPort: port, groupIfindex: ifindex };
}

export function cellPorts({
  number = 0,
  mode,
  port0 = 0,
  port1 = 0,
  remotePort0 = 0,
  remotePort1 = 0,
  maxReceivers = 0,
  group,
  groupPort = 0,
  groupIfindex = 0,
}: IstCell): CellPorts {
  if (mode === "fanout") {
    const to = group && {
      host: ipText(group),
      port: groupPort,
      ...(groupIfindex > 0 ? { ifindex: groupIfindex } : {}),
    };
    return { cell: number, ports: [port0, port1], fanout: { receivers: maxReceivers, ...(to ? { group: to } : {}) } };
  }
  if (mode !== "pure") return { cell: number, ports: [port0, port1] };
  if (remotePort0 === 0) return { cell: number, ports: [port0, 0], pure: { learns: 0 } };
  if (remotePort1 === 0) return { cell: number, ports: [0, port1], pure: { learns: 1 } };
  return { cell: number, ports: [port0, port1], pure: {} };
}

/** What the kernel is told when the source port of a leg is known. @param learns the leg's side */
export function learnedPort(cell: number, learns: Side, port: number): IstCell {
  return { number: cell, ...(learns === 0 ? { port1: port } : { port0: port }) };
}

/** One allocation may be spread over several messages of a dump: they are put together. */
export function joinAllocations(messages: readonly IstAlloc[]): (IstAlloc & { id: bigint })[] {
  const byId = new Map<bigint, IstAlloc & { id: bigint }>();
  for (const message of messages) {
    if (message.id === undefined) continue;
    const { id } = message;
    const known = byId.get(id);
    byId.set(id, { ...known, ...message, id, cell: [...(known?.cell ?? []), ...(message.cell ?? [])] });
  }
  return [...byId.values()];
}

/** Reasons of the kernel in the words of the protocol, where these are others. */
const OTHER_CODES = {
  expired: "silent",
  unanswered: "timeout",
  "table-full": "ist-full",
  "no-memory": "ist-full",
} as const satisfies Partial<Record<IstReason, Code>>;

const SAME_CODES = [
  "finished",
  "reset",
  "no-peer-leg",
  "replaced",
  "idle-limit",
  "time-limit",
  "byte-limit",
  "splice-limit",
  "released",
  "revoked",
  "drained",
  "not-joined",
  "stranger",
] as const satisfies readonly (IstReason & Code)[];

/** Why a leg or splice ended, for a peer. */
export function codeOf(reason: IstReason): Code {
  const same = SAME_CODES.find((code) => code === reason);
  return same ?? (OTHER_CODES as Partial<Record<IstReason, Code>>)[reason] ?? "internal";
}

/** What the kernel is told about the end of an allocation; a reason that it has no word for is a release. */
export function reasonOf(code: Code): IstReason {
  return SAME_CODES.find((reason) => reason === code) ?? "released";
}

export function transportOf(proto: number | undefined): Transport {
  return proto === IPPROTO_UDP ? "udp" : "tcp";
}
const IPPROTO_UDP = 17;

export function hostPortOf(address: Uint8Array | undefined, port: number | undefined): HostPort {
  return { host: address ? ipText(address) : "", port: port ?? 0 };
}

export function spliceDump({ id = 0n, cell, proto, leg = [], age = 0n, idle = 0n }: IstSplice): SpliceDump {
  const legs = [0, 1].map((side): IstLeg => leg.find((each) => each.side === side) ?? {});
  const [a, b] = legs as [IstLeg, IstLeg];
  return {
    splice: Number(id),
    ...(cell === undefined ? {} : { cell }),
    proto: transportOf(proto),
    sources: [hostPortOf(a.remote, a.remotePort), hostPortOf(b.remote, b.remotePort)],
    bytes: [Number(a.bytes ?? 0n), Number(b.bytes ?? 0n)],
    ageMs: Number(age),
    idleMs: Number(idle),
  };
}

/** All but what the kernel does not count apart. */
export function dataPathStats(stats: IstStats): Omit<DataPathStats, "pureSplices"> {
  const closed: Partial<Record<Code, number>> = {};
  const dropped: Partial<Record<PacketDrop, number>> = {};
  for (const { reason = "none", ended = 0n, packets = 0n } of stats.reasonCount ?? []) {
    if (ended > 0n) closed[codeOf(reason)] = (closed[codeOf(reason)] ?? 0) + Number(ended);
    if (packets > 0n && isPacketDrop(reason)) dropped[reason] = Number(packets);
  }
  return {
    cells: stats.cells ?? 0,
    halves: stats.halves ?? 0,
    splices: stats.splices ?? 0,
    udpSplices: stats.udpSplices ?? 0,
    bytes: Number(stats.bytes ?? 0n),
    closed,
    dropped,
  };
}

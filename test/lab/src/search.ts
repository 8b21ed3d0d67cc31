import { type CapturedPacket, readCapture } from "./pcap.ts";

export interface Finding {
  needle: Buffer;
  /** Protocol, source and destination of the packets that carried it. */
  flow: string;
}

/** Needles are told apart by their first bytes, as one number. */
const KEY_BYTES = 4;

/**
 * Looks for byte runs in all that a capture holds: in each packet, and in each direction of each TCP connection put
 * together in order, so that a run cut in two by a packet's end is found as well. Takes as long for thousands of needles
 * as for one.
 * @param file a pcap file that `Capture` wrote
 * @param needles of 4 bytes or more
 */
export function searchCapture(file: string, needles: Buffer[]): Finding[] {
  const packets = readCapture(file);
  const flows = new Map(needles.map((needle) => [needle, new Set<string>()]));
  const byKey = Map.groupBy(needles, (needle) => needle.readUInt32LE(0));
  for (const run of [...packets.map(({ flow, payload }) => ({ flow, bytes: payload })), ...tcpRuns(packets)]) {
    for (const needle of needlesIn(run.bytes, byKey)) flows.get(needle)!.add(run.flow);
  }
  return needles.flatMap((needle) => [...flows.get(needle)!].map((flow) => ({ needle, flow })));
}

function* needlesIn(bytes: Buffer, byKey: Map<number, Buffer[]>): Generator<Buffer> {
  let key = 0;
  for (let end = 0; end < bytes.length; end++) {
    key = (key >>> 8) | (bytes[end]! << 24);
    const start = end + 1 - KEY_BYTES;
    if (start < 0) continue;
    for (const needle of byKey.get(key >>> 0) ?? []) {
      if (bytes.subarray(start, start + needle.length).equals(needle)) yield needle;
    }
  }
}

interface Run {
  flow: string;
  bytes: Buffer;
}

/** Each direction's bytes in the order of their sequence numbers, in as many runs as it has gaps. */
function tcpRuns(packets: CapturedPacket[]): Run[] {
  const segments = packets.filter(({ protocol, payload }) => protocol === "tcp" && payload.length > 0);
  return [...Map.groupBy(segments, ({ flow }) => flow)].flatMap(([flow, own]) =>
    inOrder(own).map((bytes) => ({ flow, bytes })),
  );
}

function inOrder(segments: CapturedPacket[]): Buffer[] {
  const first = segments[0]!.sequence;
  // As signed 32 bits: a sequence number may wrap, and a segment may come before the first one that was seen.
  const placed = segments
    .map(({ sequence, payload }) => ({ at: (sequence - first) | 0, payload }))
    .sort((a, b) => a.at - b.at);
  const runs: Buffer[][] = [];
  let end = Number.NaN;
  for (const { at, payload } of placed) {
    if (at + payload.length <= end) continue;
    if (at <= end) runs.at(-1)!.push(payload.subarray(end - at));
    else runs.push([payload]);
    end = at + payload.length;
  }
  return runs.map((run) => Buffer.concat(run));
}

import { type CapturedPacket, readCapture } from "./pcap.ts";

export interface Finding {
  needle: Buffer;
  /** Protocol, source and destination of the packets that carried it. */
  flow: string;
}

/**
 * Looks for byte runs in all that a capture holds: in each packet, and in each direction of each TCP connection put
 * together in order, so that a run cut in two by a packet's end is found as well.
 * @param file a pcap file that `Capture` wrote
 */
export function searchCapture(file: string, needles: Buffer[]): Finding[] {
  const packets = readCapture(file);
  const runs = [...packets.map(({ flow, payload }) => ({ flow, bytes: payload })), ...tcpRuns(packets)];
  return needles.flatMap((needle) => {
    const flows = new Set(runs.filter(({ bytes }) => bytes.includes(needle)).map(({ flow }) => flow));
    return [...flows].map((flow) => ({ needle, flow }));
  });
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

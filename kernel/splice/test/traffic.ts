import type { Relay } from "./relay.ts";

export interface TrafficOptions {
  /** Cells in a row. */
  streams: number;
  /** Where datagrams are sent all the time: ports of the relay for `a`, and for `b`. */
  datagrams: readonly [readonly number[], readonly number[]];
  seconds: number;
}

/** Shell commands that start streams in both directions and flows of datagrams. A file `streaming` says that the streams are there. */
export function trafficCommands(relay: Relay, { streams, datagrams, seconds }: TrafficOptions): string {
  const mostly = `timeout ${seconds + 20}`;
  const sends = ([0, 1] as const).flatMap((side) =>
    datagrams[side].map((port) => {
      const way = relay.way(side, [port, port]);
      return `${mostly} ${relay.leg(side, `udp ${way} 30000 1000 ${seconds}`)} &`;
    }),
  );
  return `
    rm -f ${relay.scratch}/streaming
    ${mostly} ${relay.bin}/crowd ${streams} ${streams} 0 "touch ${relay.scratch}/streaming; exec sleep ${seconds}" &
    ${sends.join("\n    ")}
  `;
}

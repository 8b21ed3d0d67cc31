import { type Figure, figure, type Goal } from "../figure.ts";
import { type DatagramRelay, ebpfPassive, forward } from "../relay/relays.ts";
import { pairedRatios } from "../statistics.ts";

interface Comparison {
  /** By default all others. */
  compared?: readonly DatagramRelay[];
  /** The ratio of the BPF programs' splice. */
  goal?: Goal;
}

/** What was measured at each relay, and how that compares with forwarding. */
export function besideForwarding(
  what: string,
  unit: string,
  rounds: ReadonlyMap<DatagramRelay, number[]>,
  { compared = [...rounds.keys()].filter((way) => way !== forward), goal }: Comparison = {},
): Figure[] {
  return [
    ...Array.from(rounds, ([way, values]) => figure(`${what}: ${way.title}`, unit, values)),
    ...compared.map((way) =>
      figure(
        `${what}: ${way.title} / ${forward.title}`,
        "x",
        pairedRatios(rounds.get(way)!, rounds.get(forward)!),
        way === ebpfPassive ? goal : undefined,
      ),
    ),
  ];
}

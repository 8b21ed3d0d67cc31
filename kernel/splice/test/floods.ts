import type { Relay } from "./relay.ts";

/** In whose name the SYNs of a flood come, as prefixes: nobody whom an allocation expects, and the host `a`. */
export const FLOODS = { "a stranger": "198.18.0.0/15", "the expected address": "10.1.0.2/32" } as const;
export const STRANGERS = FLOODS["a stranger"];

const STREAMS = 4;
const SYNS_PER_SECOND = 5000;
const CLOSED_PORT = 19_999;
/** A cell of nobody but the flood. */
const FLOODED_PORT = 20_000 + 2 * STREAMS;

export interface ShareOptions {
  rounds: number;
  /** Of each flood. */
  seconds: number;
  timeoutMs?: number;
  /**
   * Ends and floods have one CPU, and what streams pass is counted per time that their ends have it, and for as long as
   * floods would leave it to them: how much others take does not matter.
   */
  byCpuTime?: boolean;
}

interface Flood {
  readonly from: string;
  readonly port: number;
  readonly passed: number;
}

/**
 * What streams have of their throughput under a flood of a cell, as shares of what they have under the same flood of a
 * closed port: both in each round, and the median of all rounds. @throws Error when a flood was not whole
 */
export async function sharesUnderFlood(
  relay: Relay,
  { rounds, seconds, timeoutMs, byCpuTime = false }: ShareOptions,
): Promise<Record<keyof typeof FLOODS, number>> {
  await relay.cellsInRow(STREAMS + 1);
  await relay.on("i", `ip route add ${STRANGERS} via 10.1.0.2`);
  const meanwhile = `
    # Of all streams, at b, where no flood comes by.
    bytes() { set -- $(grep b0: /proc/net/dev); echo $(($2 + \${10})); }
    cpu() { ${byCpuTime ? "read ns rest </proc/$crowd/schedstat; echo $ns" : "echo 0"}; }
    crowd=$(pgrep -x crowd)
    # The streams come to their pace.
    sleep 0.5
    for round in $(seq ${rounds}); do
      for from in ${Object.values(FLOODS).join(" ")}; do
        for port in ${CLOSED_PORT} ${FLOODED_PORT}; do
          bytes=$(bytes) cpu=$(cpu)
          ${relay.floodCommand("a", "$from", "$port", SYNS_PER_SECOND, seconds)} >${relay.scratch}/sent
          echo from $from $port $(($(bytes) - bytes)) $(($(cpu) - cpu)) $(cat ${relay.scratch}/sent)
        done
      done
    done`;
  const output = await relay.crowd({
    cells: STREAMS,
    pairs: STREAMS,
    bytes: 0,
    meanwhile,
    timeoutMs,
    onOneCpu: byCpuTime,
  });
  const rows = [...output.matchAll(/^from (\S+) (\d+) (\d+) (\d+) sent (\d+) cpu (\d+) ns$/gm)];
  const floods = rows.map(([, from, port, ...numbers]): Flood => {
    const [bytes, ends, , own] = numbers.map(Number) as [number, number, number, number];
    return { from: from!, port: Number(port), passed: byCpuTime ? (bytes / ends) * (1e9 * seconds - own) : bytes };
  });
  const isWhole = rows.every(([, , , , , sent]) => Number(sent) === SYNS_PER_SECOND * seconds);
  if (floods.length !== 4 * rounds || !isWhole) throw new Error(`not every flood was whole:\n${output}`);
  const shareOf = (from: string): number => {
    const [closed, cell] = [CLOSED_PORT, FLOODED_PORT].map((port) =>
      floods.filter((flood) => flood.from === from && flood.port === port),
    );
    return median(cell!.map(({ passed }, round) => passed / closed![round]!.passed));
  };
  return { "a stranger": shareOf(STRANGERS), "the expected address": shareOf(FLOODS["the expected address"]) };
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
}

import { kernelsUnderTest } from "@isthmus/vm";
import { expect, it, onTestFinished } from "vitest";
import { bootRelay, SOURCES } from "./relay-hosts.ts";

const LIMIT_MS = 900_000;
const STREAMS = 4;
const ROUNDS = 3;
const SYNS_PER_SECOND = 5000;
const FLOOD_SECONDS = 0.4;
const CLOSED_PORT = 19_999;
/** A cell of nobody but the flood. */
const FLOODED_PORT = 20_000 + 2 * STREAMS;
const LEAST_SHARE = 0.9;

const FLOODS = { "a stranger": "198.18.0.0/15", "the expected address": "10.1.0.2/32" } as const;

/**
 * The guest's clock counts instructions, so that throughput is work per work: what a flood costs splices beside it does
 * not depend on the host. Each flood of a cell is held against one of a closed port, in turn.
 */
it.each(kernelsUnderTest())(
  "splices keep nine tenths of their throughput under a flood of a cell, on $version",
  async (kernel) => {
    const { vm, hosts } = await bootRelay(kernel, { countInstructions: true, tools: ["crowd", "flood"] });
    onTestFinished(() => vm.stop());
    const cells = Array.from(
      { length: STREAMS + 1 },
      (_, n) => `cell ${n} passive ${20_000 + 2 * n} ${20_001 + 2 * n}`,
    );
    await hosts.istctl(`new 1 ${SOURCES} ${cells.join(" ")}`);
    await hosts.on("i", `ip route add ${FLOODS["a stranger"]} via 10.1.0.2`);

    const output = await vm.check(
      `
      cat >/tmp/rounds <<'END'
      bytes() { ip netns exec i ${vm.guestShare}/istctl stats | sed 's/.* bytes=\\([0-9]*\\).*/\\1/'; }
      # The streams come to their pace.
      sleep 0.5
      for round in $(seq ${ROUNDS}); do
        for from in ${Object.values(FLOODS).join(" ")}; do
          for port in ${CLOSED_PORT} ${FLOODED_PORT}; do
            before=$(bytes)
            ip netns exec a ${vm.guestShare}/flood $from 10.1.0.1 $port ${SYNS_PER_SECOND} ${FLOOD_SECONDS} >/tmp/sent
            echo $from $port $(($(bytes) - before)) $(sed 's/sent //' /tmp/sent)
          done
        done
      done
END
      ${vm.guestShare}/crowd ${STREAMS} ${STREAMS} 0 "sh -e /tmp/rounds"`,
      LIMIT_MS,
    );
    const rows = output
      .split("\n")
      .filter((line) => line.includes("/"))
      .map((line) => line.split(" "));
    expect(rows).toHaveLength(ROUNDS * 4);
    for (const [, , , sent] of rows) expect(Number(sent)).toBe(SYNS_PER_SECOND * FLOOD_SECONDS);
    const passed = (from: string, port: number): number =>
      median(rows.filter((row) => row[0] === from && row[1] === String(port)).map((row) => Number(row[2])));
    for (const [who, from] of Object.entries(FLOODS)) {
      const share = passed(from, FLOODED_PORT) / passed(from, CLOSED_PORT);
      console.log(`${kernel.version}: flood from ${who}: ${share.toFixed(3)} of the throughput beside a closed port`);
      expect(share, who).toBeGreaterThanOrEqual(LEAST_SHARE);
    }
    expect(vm.complaints()).toEqual([]);
  },
  LIMIT_MS,
);

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
}

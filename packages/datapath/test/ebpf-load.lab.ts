import { expect, it, onTestFinished } from "vitest";
import { sharesUnderFlood } from "../../../kernel/splice/test/floods.ts";
import { describeLoad } from "../../../kernel/splice/test/load.suite.ts";
import { EbpfRelay } from "./ebpf-relay.ts";

/** What a splice may take in its own map and, twice, in that of flows. */
const MOST_BYTES = 1024;
const LEAST_SHARE = 0.9;

async function start() {
  // Nobody waits a minute here until splices are forgotten.
  const relay = await EbpfRelay.start({ tcpTimes: { timeWaitMs: 1000 } });
  return { relay, stop: () => relay.stop() };
}

describeLoad("the BPF programs under load", start, { pairs: 10_000, mostBytes: MOST_BYTES });

it("splices keep nine tenths of their throughput under a flood of a cell", async () => {
  const { relay, stop } = await start();
  onTestFinished(stop);
  const shares = await sharesUnderFlood(relay, { rounds: 5, seconds: 0.4, byCpuTime: true });
  for (const [who, share] of Object.entries(shares)) {
    console.log(`flood from ${who}: ${share.toFixed(3)} of the throughput beside a closed port`);
    expect(share, who).toBeGreaterThanOrEqual(LEAST_SHARE);
  }
  expect(await relay.complaints()).toEqual([]);
});

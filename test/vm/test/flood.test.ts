import { kernelsUnderTest } from "@isthmus/vm";
import { expect, it, onTestFinished } from "vitest";
import { sharesUnderFlood } from "../../../kernel/splice/test/floods.ts";
import { bootRelay } from "./relay-hosts.ts";

const LIMIT_MS = 900_000;
const LEAST_SHARE = 0.9;

/**
 * The guest's clock counts instructions, so that throughput is work per work: what a flood costs splices beside it does
 * not depend on the host. Each flood of a cell is held against one of a closed port, in turn.
 */
it.each(kernelsUnderTest())(
  "splices keep nine tenths of their throughput under a flood of a cell, on $version",
  async (kernel) => {
    const { vm, hosts } = await bootRelay(kernel, { countInstructions: true, tools: ["crowd", "flood"] });
    onTestFinished(() => vm.stop());
    const shares = await sharesUnderFlood(hosts, { rounds: 3, seconds: 0.4, timeoutMs: LIMIT_MS });
    for (const [who, share] of Object.entries(shares)) {
      console.log(`${kernel.version}: flood from ${who}: ${share.toFixed(3)} of the throughput beside a closed port`);
      expect(share, who).toBeGreaterThanOrEqual(LEAST_SHARE);
    }
    expect(vm.complaints()).toEqual([]);
  },
  LIMIT_MS,
);

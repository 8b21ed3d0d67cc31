import { kernelsUnderTest } from "@isthmus/vm";
import { describeLoad } from "../../../kernel/splice/test/load.suite.ts";
import { bootRelay } from "./relay-hosts.ts";

/** A splice has 576 bytes, and what the table of flows has at most for each of its legs: two pointers. */
const MOST_BYTES = 700;

for (const kernel of kernelsUnderTest()) {
  const start = async () => {
    const options = { memoryMiB: 2048, tools: ["crowd", "flood"], countsObjects: true };
    const { vm, hosts } = await bootRelay(kernel, options);
    return { relay: hosts, stop: () => vm.stop() };
  };
  const pairs = kernel.isDebug ? 400 : 10_000;
  describeLoad(`ist_splice under load, on ${kernel.version}`, start, { pairs, mostBytes: MOST_BYTES });
}

import { kernelsUnderTest } from "@isthmus/vm";
import { ALL_FAMILIES } from "../../../kernel/splice/test/relay-topology.ts";
import { describeStacks } from "../../../kernel/splice/test/stacks.suite.ts";
import { bootRelay } from "./relay-hosts.ts";

for (const kernel of kernelsUnderTest()) {
  const start = async () => {
    const { vm, hosts } = await bootRelay(kernel);
    return { relay: hosts, stop: () => vm.stop() };
  };
  describeStacks(`ist_splice between Linux stacks on ${kernel.version}`, start, {
    holdsMs: [100, 900, 5000, 20_000],
    families: ALL_FAMILIES,
  });
}

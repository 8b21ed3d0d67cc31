import { describeNats } from "../../../kernel/splice/test/nats.suite.ts";
import { ALL_FAMILIES } from "../../../kernel/splice/test/relay-topology.ts";
import { describeStacks } from "../../../kernel/splice/test/stacks.suite.ts";
import { EbpfRelay, type EbpfRelayOptions } from "./ebpf-relay.ts";

const holdsMs = process.env.ISTHMUS_FULL === "1" ? [100, 900, 5000, 20_000] : [100, 900, 5000];

/** The programs drop fragments, and errors other than of what is too large, that would have to become those of another family. */
const families = ALL_FAMILIES.filter(([a, b]) => a === b);

const start = (options?: EbpfRelayOptions) => async () => {
  const relay = await EbpfRelay.start(options);
  return { relay, stop: () => relay.stop() };
};

describeStacks("the BPF programs between Linux stacks", start(), { holdsMs, families });
describeNats("the BPF programs between two NATs", start({ behindNats: true }), {
  families,
  learnsMtu: false,
  setsDontFragment: false,
});

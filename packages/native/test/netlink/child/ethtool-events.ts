import { execFileSync } from "node:child_process";
import { type GenericEvent, GenericFamily, NetlinkError } from "../../../src/netlink/index.ts";
import { ETHTOOL } from "../families.ts";

/** Settings of a device of this namespace: events of them, and what the kernel says to wrong ones. */
execFileSync("ip", "link add veth-a numtxqueues 4 numrxqueues 4 type veth peer name veth-b".split(" "));
const ethtool = await GenericFamily.open(ETHTOOL);
const events: GenericEvent<typeof ETHTOOL>[] = [];
let arrived = Promise.withResolvers<void>();
const stop = ethtool.subscribe(["monitor"], {
  onEvent: (event) => {
    events.push(event);
    arrived.resolve();
  },
  onResynchronise: () => process.exit(3),
});
const header = { devName: "veth-a" };

await ethtool.request("channels-set", { header, txCount: 2 });
await arrived.promise;
arrived = Promise.withResolvers();
stop();
// Nobody listens any more; the answer to the next request comes after what the request causes.
await ethtool.request("channels-set", { header, txCount: 1 });

async function refusal(attributes: Parameters<typeof ethtool.request<"channels-set">>[1]) {
  try {
    await ethtool.request("channels-set", attributes);
    return undefined;
  } catch (error) {
    const { code, message, extendedAck } = error as NetlinkError;
    return { isTyped: error instanceof NetlinkError, code, message, extendedAck };
  }
}

const refusals = {
  tooMany: await refusal({ header, rxCount: 1, txCount: 1000 }),
  nested: await refusal({ rxCount: 1, header: { devName: "a-name-that-no-device-can-have" } }),
};
ethtool.close();
process.stdout.write(JSON.stringify({ events, refusals }));

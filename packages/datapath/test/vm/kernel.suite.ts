import { KernelDataPath } from "@isthmus/datapath";
import { describeDataPath, loopbackHosts } from "@isthmus/datapath/testing";
import { GenericFamily, IST_FAMILY } from "@isthmus/native/netlink";
import { silentLogger } from "@isthmus/service";

describeDataPath("kernel", async () => ({
  dataPath: new KernelDataPath({ logger: silentLogger() }),
  hosts: loopbackHosts(),
  remove: removeAllocations,
}));

/** The kernel keeps what a test has left. */
async function removeAllocations(): Promise<void> {
  const ist = await GenericFamily.open(IST_FAMILY);
  const { entries } = await ist.dump("alloc-get", {});
  for (const id of new Set(entries.map((entry) => entry.id))) await ist.request("alloc-del", { id });
  ist.close();
}

import type { AllocationSpec } from "@isthmus/datapath";
import { loopbackHosts, type TestHosts } from "@isthmus/datapath/testing";
import { GenericFamily, IST_FAMILY } from "@isthmus/native/netlink";
import { sourcePrefix } from "@isthmus/protocol";

export const ALLOCATION = "00000000000000a1";

export const hosts: TestHosts = loopbackHosts();

/** An allocation of one cell without limits, for the hosts. */
export const SPEC: AllocationSpec = {
  allocation: ALLOCATION,
  cells: [{ cell: 0 }],
  sources: [[sourcePrefix(hosts.sides[0].address)], [sourcePrefix(hosts.sides[1].address)]],
  limits: { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: 10_000 },
};

/** The kernel keeps what a test has left. */
export async function removeAllocations(): Promise<void> {
  const ist = await GenericFamily.open(IST_FAMILY);
  const { entries } = await ist.dump("alloc-get", {});
  for (const id of new Set(entries.map((entry) => entry.id))) await ist.request("alloc-del", { id });
  ist.close();
}

import { GenericFamily, IST_FAMILY } from "@isthmus/native/netlink";

/** The kernel keeps what a test has left. */
export async function removeAllocations(): Promise<void> {
  const ist = await GenericFamily.open(IST_FAMILY);
  const { entries } = await ist.dump("alloc-get", {});
  for (const id of new Set(entries.map((entry) => entry.id))) await ist.request("alloc-del", { id });
  ist.close();
}

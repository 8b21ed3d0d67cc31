import type { AllocationSpec } from "@isthmus/datapath";
import { loopbackHosts, type TestHosts } from "@isthmus/datapath/testing";
import { sourcePrefix } from "@isthmus/protocol";

export const ALLOCATION = "00000000000000a1";

export const hosts: TestHosts = loopbackHosts();

/** An allocation of one cell without limits, between two hosts. */
export function oneCell([a, b]: TestHosts["sides"] = hosts.sides, allocation = ALLOCATION): AllocationSpec {
  return {
    allocation,
    cells: [{ cell: 0 }],
    sources: [[sourcePrefix(a.address)], [sourcePrefix(b.address)]],
    limits: { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: 10_000 },
  };
}

export const SPEC: AllocationSpec = oneCell();

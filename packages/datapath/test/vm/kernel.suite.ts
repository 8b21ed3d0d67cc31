import { KernelDataPath } from "@isthmus/datapath";
import { describeDataPath } from "@isthmus/datapath/testing";
import { silentLogger } from "@isthmus/service";
import { hosts } from "../one-cell.ts";
import { removeAllocations } from "./allocations.ts";

describeDataPath("kernel", async () => ({
  dataPath: new KernelDataPath({ logger: silentLogger() }),
  hosts,
  remove: removeAllocations,
}));

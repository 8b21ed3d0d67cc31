import { DEFAULT_PORTS, KernelDataPath } from "@isthmus/datapath";
import { silentLogger } from "@isthmus/service";
import { SPEC } from "../../one-cell.ts";

/** Makes an allocation, prints its cells and waits to be killed. */
const dataPath = new KernelDataPath({ logger: silentLogger() });
await dataPath.open({ ports: DEFAULT_PORTS, udpIdleMs: 60_000, onEvent: () => undefined });
console.log(JSON.stringify(await dataPath.allocate(SPEC)));

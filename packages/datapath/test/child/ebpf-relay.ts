import { createInterface } from "node:readline";
import { SpliceObject } from "@isthmus/native/bpf";
import { silentLogger } from "@isthmus/service";
import { FILTER_PRIORITY, Interfaces } from "../../src/ebpf/interfaces.ts";
import { SpliceMaps } from "../../src/ebpf/splice-maps.ts";
import { type AllocationSpec, DEFAULT_PORTS, EbpfDataPath } from "../../src/index.ts";

/** What the process is asked, a line of JSON each, and answers, a line each. */
export type Request =
  | { call: "open"; handshake: { synAckMs: number; synRcvdMs: number } }
  | { call: "allocate"; spec: AllocationSpec }
  | { call: "release"; allocation: string }
  | { call: "stats" }
  /** States of an allocation's splices, the newest last. */
  | { call: "states"; allocation: string }
  | { call: "close" };

let dataPath: EbpfDataPath | undefined;
let maps: SpliceMaps | undefined;

async function attachedMaps(): Promise<SpliceMaps> {
  const interfaces = new Interfaces(() => undefined);
  const filters = await interfaces.filters({ index: 1, name: "lo" });
  interfaces.close();
  const ours = filters.find(({ priority, programId }) => priority === FILTER_PRIORITY && programId);
  return new SpliceMaps(new SpliceObject(ours!.programId!));
}

async function answer(request: Request): Promise<unknown> {
  if (request.call === "open") {
    dataPath = new EbpfDataPath({ logger: silentLogger(), handshake: request.handshake });
    await dataPath.open({ ports: DEFAULT_PORTS, udpIdleMs: 60_000, onEvent: () => undefined });
    maps = await attachedMaps();
    return null;
  }
  if (!dataPath || !maps) throw new Error("the data path is not open");
  switch (request.call) {
    case "allocate":
      return dataPath.allocate(request.spec);
    case "release":
      return dataPath.release(request.allocation, "released");
    case "stats":
      return dataPath.stats();
    case "states":
      return Array.from(maps.splices())
        .filter(({ alloc }) => alloc === BigInt(`0x${request.allocation}`))
        .sort((a, b) => Number(a.id - b.id))
        .map(({ state }) => state);
    case "close":
      return dataPath.close();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  try {
    process.stdout.write(`${JSON.stringify({ answer: (await answer(JSON.parse(line) as Request)) ?? null })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ error: (error as Error).message })}\n`);
  }
}
process.exit(0);

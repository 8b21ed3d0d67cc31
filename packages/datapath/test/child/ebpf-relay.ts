import { createInterface } from "node:readline";
import { silentLogger } from "@isthmus/service";
import { SpliceMaps } from "../../src/ebpf/splice-maps.ts";
import { type AllocationSpec, DEFAULT_PORTS, EbpfDataPath } from "../../src/index.ts";
import { attachedObject } from "../../src/testing/attached-object.ts";

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

async function answer(request: Request): Promise<unknown> {
  if (request.call === "open") {
    dataPath = new EbpfDataPath({ logger: silentLogger(), handshake: request.handshake });
    await dataPath.open({ ports: DEFAULT_PORTS, udpIdleMs: 60_000, onEvent: () => undefined });
    maps = new SpliceMaps(await attachedObject());
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

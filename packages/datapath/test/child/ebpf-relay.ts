import { createInterface } from "node:readline";
import type { IstLeg } from "@isthmus/native/netlink";
import { silentLogger } from "@isthmus/service";
import { Interfaces, LOOPBACK, ownProgram } from "../../src/ebpf/interfaces.ts";
import { SpliceMaps } from "../../src/ebpf/splice-maps.ts";
import { type AllocationSpec, DEFAULT_PORTS, EbpfDataPath, type EbpfOptions } from "../../src/index.ts";
import { hostPortOf } from "../../src/kernel/translation.ts";
import { attachedObject } from "../../src/testing/attached-object.ts";

/** What the process is asked, a line of JSON each, and answers, a line each. */
export type Request =
  | { call: "open"; tcpTimes: EbpfOptions["tcpTimes"] }
  | { call: "allocate"; spec: AllocationSpec }
  | { call: "release"; allocation: string }
  | { call: "stats" }
  /** How often a reason ended something and how many packets it cost. */
  | { call: "counted"; reason: string }
  /** States, reasons and ends of an allocation's splices, the newest last. */
  | { call: "splices"; allocation: string }
  /** How many unpaired legs were told to have ended. */
  | { call: "halves-ended" }
  /** How many splices there are, those included that are over. */
  | { call: "remembered" }
  /** The number of the attached program. */
  | { call: "program" }
  | { call: "close" };

let dataPath: EbpfDataPath | undefined;
let maps: SpliceMaps | undefined;
let halvesEnded = 0;

async function answer(request: Request): Promise<unknown> {
  if (request.call === "open") {
    dataPath = new EbpfDataPath({ logger: silentLogger(), tcpTimes: request.tcpTimes ?? {} });
    await dataPath.open({
      ports: DEFAULT_PORTS,
      udpIdleMs: 60_000,
      onEvent: (event) => {
        if (event.event === "closed" && event.splice === undefined) halvesEnded++;
      },
    });
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
    case "counted": {
      const found = maps.stats(0).reasonCount?.find(({ reason }) => reason === request.reason);
      return { ended: Number(found?.ended ?? 0), packets: Number(found?.packets ?? 0) };
    }
    case "splices":
      return Array.from(maps.splices())
        .filter(({ alloc }) => alloc === BigInt(`0x${request.allocation}`))
        .sort((a, b) => Number(a.id - b.id))
        .map(({ state, reason = "none", leg }) => ({ state, reason, ends: leg.map(endOf) }));
    case "halves-ended":
      return halvesEnded;
    case "remembered":
      return Array.from(maps.splices()).length;
    case "program":
      return attachedProgram();
    case "close":
      maps = undefined;
      return dataPath.close();
  }
}

function endOf({ remote, remotePort }: IstLeg): string {
  const { host, port } = hostPortOf(remote, remotePort);
  return `${host}:${port}`;
}

async function attachedProgram(): Promise<number | undefined> {
  const interfaces = new Interfaces(() => undefined);
  try {
    return ownProgram(await interfaces.filters(LOOPBACK));
  } finally {
    interfaces.close();
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

import { silentLogger } from "@isthmus/service";
import { onTestFinished } from "vitest";
import { UserspaceDataPath } from "../src/index.ts";
import { TestDatagrams, type TestHosts } from "../src/testing.ts";
import { hosts, oneCell } from "./one-cell.ts";
import { opened } from "./opened.ts";
import { NO_LIMITS } from "./spliced-legs.ts";

/** A cell of the user-space data path, and a socket for each of its sides, until the test is finished. */
export async function datagramPair(sides: TestHosts["sides"] = hosts.sides) {
  const { dataPath, events } = await opened(new UserspaceDataPath({ logger: silentLogger() }));
  const [cell] = await dataPath.allocate({ ...oneCell(sides), limits: NO_LIMITS });
  const [a, b] = [await TestDatagrams.on(sides[0]), await TestDatagrams.on(sides[1])];
  onTestFinished(() => {
    a.close();
    b.close();
  });
  return { dataPath, events, ports: cell!.ports, a, b };
}

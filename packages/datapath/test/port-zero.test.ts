import { silentLogger } from "@isthmus/service";
import { expect, it, onTestFinished, vi } from "vitest";
import { DEFAULT_PORTS, UserspaceDataPath } from "../src/index.ts";
import { cannotForge, EventLog, loopbackHosts, sendFromPortZero, TestDatagrams } from "../src/testing.ts";
import { NO_LIMITS } from "./spliced-legs.ts";

it("takes no datagram from port 0, of whatever address", async ({ skip }) => {
  skip(cannotForge !== undefined, cannotForge);
  const dataPath = new UserspaceDataPath({ logger: silentLogger() });
  const events = new EventLog();
  await dataPath.open({ ports: DEFAULT_PORTS, udpIdleMs: 60_000, onEvent: events.add });
  onTestFinished(() => dataPath.close());
  const [cell] = await dataPath.allocate({
    allocation: "00000000000000a1",
    cells: [{ cell: 0 }],
    sources: [["127.0.0.1"], ["127.0.0.3"]],
    limits: NO_LIMITS,
  });
  const { sides } = loopbackHosts();
  const [a, b] = [await TestDatagrams.on(sides[0]), await TestDatagrams.on(sides[1])];
  onTestFinished(() => {
    a.close();
    b.close();
  });
  await b.send(cell!.ports[1], "I am here");
  await sendFromPortZero("127.0.0.1", { host: "127.0.0.1", port: cell!.ports[0] }, Buffer.from("nowhere to answer"));
  await vi.waitFor(async () => expect((await dataPath.stats()).dropped.stranger).toBe(1));
  await b.send(cell!.ports[1], "who is there?");
  await vi.waitFor(async () => expect((await dataPath.stats()).dropped.early).toBe(2));
  await a.send(cell!.ports[0], "it is me");
  expect((await b.next()).toString()).toBe("it is me");
  await b.send(cell!.ports[1], "good");
  expect((await a.next()).toString()).toBe("good");
});

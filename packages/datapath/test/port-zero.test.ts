import { expect, it, vi } from "vitest";
import { cannotForge, sendFromPortZero } from "../src/testing.ts";
import { datagramPair } from "./datagram-pair.ts";

it("takes no datagram from port 0, of whatever address", async ({ skip }) => {
  skip(cannotForge !== undefined, cannotForge);
  const { dataPath, ports, a, b } = await datagramPair();
  await b.send(ports[1], "I am here");
  await sendFromPortZero("127.0.0.1", { host: "127.0.0.1", port: ports[0] }, Buffer.from("nowhere to answer"));
  await vi.waitFor(async () => expect((await dataPath.stats()).dropped.stranger).toBe(1));
  await b.send(ports[1], "who is there?");
  await vi.waitFor(async () => expect((await dataPath.stats()).dropped.early).toBe(2));
  await a.send(ports[0], "it is me");
  expect((await b.next()).toString()).toBe("it is me");
  await b.send(ports[1], "good");
  expect((await a.next()).toString()).toBe("good");
});

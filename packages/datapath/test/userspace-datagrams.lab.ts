import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { type DatagramCell, theDatagramRelay } from "@isthmus/native/datagrams";
import { expect, it, onTestFinished, vi } from "vitest";
import { datagramPair } from "./datagram-pair.ts";
import { hosts } from "./one-cell.ts";

function setMtu(bytes: number): void {
  execFileSync("ip", ["link", "set", "lo", "mtu", String(bytes)]);
}

it.each([
  ["IPv4", hosts.sides],
  ["IPv6", hosts.sides6!],
])("datagrams larger than the path's MTU are fragmented, others go by segments, over %s", async (_, sides) => {
  setMtu(1500);
  onTestFinished(() => setMtu(65_536));
  const added = vi.spyOn(theDatagramRelay()!, "add");
  onTestFinished(() => added.mockRestore());
  const { dataPath, events, ports, a, b } = await datagramPair(sides);
  await a.send(ports[0], "early");
  await events.next({ event: "half" });
  await b.send(ports[1], "hello");
  expect(String(await a.next())).toBe("hello");
  const relayed = added.mock.results[0]!.value as DatagramCell;
  const sizes = [...Array(20).fill(1300), ...Array(20).fill(2000), 6000, 6000, 6000, 1300, 1300, 100];
  for (let round = 0; round < 500 && (round < 20 || relayed.segmented === 0); round++) {
    const sent = sizes.map((size) => randomBytes(size));
    await Promise.all(sent.map((bytes) => a.send(ports[0], bytes)));
    for (const bytes of sent) expect(await b.next()).toEqual(bytes);
  }
  expect(relayed.segmented).toBeGreaterThan(0);
  expect((await dataPath.stats()).dropped).toEqual({ early: 1 });
});

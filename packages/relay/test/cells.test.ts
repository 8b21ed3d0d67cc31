import { randomBytes } from "node:crypto";
import { loopbackHosts, TestDatagrams } from "@isthmus/datapath/testing";
import { expect, it, onTestFinished, vi } from "vitest";
import { TestDaemon } from "./test-daemon.ts";
import { dial, startJoinedPair, startPair } from "./world.ts";

it("gives each side its own ports of one cell per opener, and tells who is there", async () => {
  const { daemons, offers } = await startPair({}, { splices: 7 });
  const a = await daemons[0].join(offers[0]);
  expect(a).toMatchObject({ side: 0, peerJoined: false, limits: { splices: 7 } });
  expect(a.cells.map(({ cell }) => cell)).toEqual([0, 1]);
  const b = await daemons[1].join(offers[1]);
  expect(b).toMatchObject({ side: 1, peerJoined: true });
  expect(b.cells.map(({ cell }) => cell)).toEqual([0, 1]);
  expect(new Set([...a.cells, ...b.cells].map(({ port }) => port)).size).toBe(4);
  expect(await daemons[0].peers.next()).toEqual({ allocation: offers[0].allocation, joined: true });
  expect(await daemons[1].join(offers[1])).toEqual(b);
});

it("lets the legs of both openers meet, over IPv4", async () => {
  const { ports } = await startJoinedPair();
  for (const [a, b] of ports) {
    const legs = [dial(a), dial(b)] as const;
    const [fromA, fromB] = [randomBytes(200_000), randomBytes(100_000)];
    legs[0].write(fromA);
    legs[1].write(fromB);
    legs[1].end();
    expect((await legs[1].bytes(fromA.length)).equals(fromA)).toBe(true);
    expect((await legs[0].bytes(fromB.length)).equals(fromB)).toBe(true);
    expect(await legs[0].whenEnded()).toBe("end");
  }
});

it("lets datagrams pass at the same ports", async () => {
  const { ports } = await startJoinedPair();
  const [hostA, hostB] = [loopbackHosts().sides[0], loopbackHosts().sides[0]];
  const [a, b] = [await TestDatagrams.on(hostA), await TestDatagrams.on(hostB)];
  onTestFinished(() => {
    a.close();
    b.close();
  });
  // The first ones are lost to learning.
  await vi.waitUntil(
    async () => {
      await a.send(ports[0][0], "to b");
      await b.send(ports[0][1], "to a");
      return a.waiting > 0 && b.waiting > 0;
    },
    { timeout: 10_000, interval: 20 },
  );
  expect((await a.next()).toString()).toBe("to a");
  expect((await b.next()).toString()).toBe("to b");
});

it("refuses strangers at a cell", async () => {
  const { ports } = await startJoinedPair();
  const a = dial(ports[0][0]);
  expect(await dial(ports[0][1], "127.0.0.1", "127.0.0.2").whenEnded()).toBe("reset");
  const b = dial(ports[0][1]);
  b.write("expected");
  expect((await a.bytes(8)).toString()).toBe("expected");
});

it("expects nobody at the side that has not joined", async () => {
  const { daemons, offers } = await startPair();
  await daemons[0].join(offers[0]);
  const { cells } = await daemons[0].join(offers[0]);
  const waiting = dial(cells[0]!.port);
  waiting.write("hello");
  const { cells: others } = await daemons[1].join(offers[1]);
  const b = dial(others[0]!.port);
  expect((await b.bytes(5)).toString()).toBe("hello");
});

it("takes legs from where the sessions are: IPv6 for one daemon, IPv4 for the other", async () => {
  const { isb, offers, daemons } = await startPair();
  await daemons[0].client.stop();
  const overIpv6 = await new TestDaemon(isb.ist, { identity: daemons[0].identity, address: 1 }).up();
  const { cells: cellsA } = await overIpv6.join(offers[0]);
  const { cells: cellsB } = await daemons[1].join(offers[1]);
  expect(await dial(cellsA[0]!.port).whenEnded()).toBe("reset");
  const a = dial(cellsA[0]!.port, "::1");
  const b = dial(cellsB[0]!.port, "127.0.0.1");
  a.write("six");
  b.write("four");
  expect((await b.bytes(3)).toString()).toBe("six");
  expect((await a.bytes(4)).toString()).toBe("four");
});

import { expect, it } from "vitest";
import { dial, startJoinedPair, startPair } from "./world.ts";

it("adds cells for the asker's opens, which its peer knows before it gets them", async () => {
  const { daemons, offers } = await startJoinedPair();
  const [a, b] = daemons;
  const confirmed = Promise.withResolvers<void>();
  b.onCells = () => confirmed.promise;
  let isAnswered = false;
  const growing = a.grow(offers[0], 2).then((cells) => {
    isAnswered = true;
    return cells;
  });
  const told = await b.cells.next();
  expect(told.cells.map(({ cell }) => cell)).toEqual([0, 1, 2, 4]);
  // A round trip on the asker's own session: its answer would have come before.
  await a.client.request("leave", { allocation: "0000000000000000" }).catch(() => undefined);
  expect(isAnswered).toBe(false);
  confirmed.resolve();
  const cells = await growing;
  expect(cells.map(({ cell }) => cell)).toEqual([0, 1, 2, 4]);

  const port = (list: typeof cells, cell: number) => list.find((entry) => entry.cell === cell)!.port;
  const leg = dial(port(cells, 4));
  const peer = dial(port(told.cells, 4));
  leg.write("cell 4");
  expect((await peer.bytes(6)).toString()).toBe("cell 4");
  expect((await b.grow(offers[1], 1)).map(({ cell }) => cell)).toEqual([0, 1, 2, 3, 4]);
  expect((await a.cells.next()).cells.map(({ cell }) => cell)).toEqual([0, 1, 2, 3, 4]);
});

it("takes them back when the peer does not confirm", async () => {
  const { daemons, offers } = await startJoinedPair({ sessions: { cells_answer_seconds: 0.2 } });
  const [a, b] = daemons;
  const never = Promise.withResolvers<void>();
  b.onCells = () => never.promise;
  await expect(a.grow(offers[0], 2)).rejects.toMatchObject({ code: "timeout" });
  expect((await a.join(offers[0])).cells.map(({ cell }) => cell)).toEqual([0, 1]);
  const { cells } = await b.cells.next();
  expect(await dial(cells[2]!.port).whenEnded()).toBe("reset");
  never.resolve();
});

it("does not wait for a peer that is away; it learns them when it joins", async () => {
  const { daemons, offers } = await startPair();
  const [a, b] = daemons;
  await a.join(offers[0]);
  expect((await a.grow(offers[0], 1)).map(({ cell }) => cell)).toEqual([0, 1, 2]);
  expect((await b.join(offers[1])).cells.map(({ cell }) => cell)).toEqual([0, 1, 2]);
});

it("does not wait for a peer that is lost meanwhile", async () => {
  const { daemons, offers } = await startJoinedPair();
  const [a, b] = daemons;
  b.onCells = async () => {
    // Does not answer any more.
    void b.client.stop();
    await new Promise(() => undefined);
  };
  expect((await a.grow(offers[0], 1)).map(({ cell }) => cell)).toEqual([0, 1, 2]);
});

it("has an end: 64 for each side", async () => {
  const { daemons, offers } = await startJoinedPair();
  const [a] = daemons;
  expect(await a.grow(offers[0], 64)).toHaveLength(65);
  await expect(a.grow(offers[0], 1)).rejects.toMatchObject({ code: "cell-limit" });
});

it("says so when no port is left, and keeps what there was", async () => {
  const { daemons, offers } = await startJoinedPair({ data_path: { ports: { from: 19_100, to: 19_105 } } });
  const [a] = daemons;
  await expect(a.grow(offers[0], 8)).rejects.toMatchObject({ code: "ist-full" });
  expect((await a.join(offers[0])).cells).toHaveLength(2);
});

it("gives cells back, but not the last, and tells the peer", async () => {
  const { daemons, offers } = await startJoinedPair();
  const [a, b] = daemons;
  const { allocation } = offers[0];
  const grown = await a.grow(offers[0], 2);
  await b.cells.next();
  await a.client.request("shrink", { allocation, cells: [0, 2, 4] });
  expect((await b.cells.next()).cells.map(({ cell }) => cell)).toEqual([0, 1]);
  expect((await a.join(offers[0])).cells).toEqual(grown.filter(({ cell }) => cell < 2));
  expect(await dial(grown[2]!.port).whenEnded()).toBe("reset");
  await expect(a.client.request("shrink", { allocation, cells: [1] })).rejects.toMatchObject({ code: "bad-request" });
});

it("serves both sides when they grow at the same time", async () => {
  const { daemons, offers } = await startJoinedPair();
  const [a, b] = daemons;
  const [mine, theirs] = await Promise.all([a.grow(offers[0], 3), b.grow(offers[1], 3)]);
  const all = [0, 1, 2, 3, 4, 5, 6, 7];
  expect([mine.length, theirs.length].sort()).toEqual([5, 8]);
  expect((await a.join(offers[0])).cells.map(({ cell }) => cell)).toEqual(all);
  expect((await b.join(offers[1])).cells.map(({ cell }) => cell)).toEqual(all);
});

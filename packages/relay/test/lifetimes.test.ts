import { expect, it } from "vitest";
import { dial, startJoinedPair, startPair, startWorld } from "./world.ts";

it("frees an allocation that nobody joins", async () => {
  const { isb } = await startWorld({ allocations: { join_seconds: 0.2 } });
  const [{ allocation }] = await isb.allocate("A".repeat(43), `${"B".repeat(42)}A`);
  expect(await isb.released.next()).toEqual({ allocation, code: "not-joined" });
  const [again] = await isb.allocate("A".repeat(43), `${"B".repeat(42)}A`);
  expect(again.allocation).not.toBe(allocation);
});

it("frees an allocation that only one side joins, and tells it", async () => {
  const { isb, daemons, offers, metrics } = await startPair({ allocations: { join_seconds: 0.5 } });
  const { allocation } = offers[0];
  const { cells } = await daemons[0].join(offers[0]);
  const waiting = dial(cells[0]!.port);
  expect(await daemons[0].released.next()).toEqual({ allocation, code: "not-joined" });
  expect(await isb.released.next()).toEqual({ allocation, code: "not-joined" });
  expect(await waiting.whenEnded()).toBe("reset");
  expect(await dial(cells[0]!.port).whenEnded()).toBe("reset");
  await expect(daemons[0].join(offers[0])).rejects.toMatchObject({ code: "unknown-allocation" });
  expect(await metrics.value("allocations_freed_total", { reason: "not-joined" })).toBe(1);
  expect(await metrics.value("allocations")).toBe(0);
});

it("keeps a joined allocation, however idle", async () => {
  const { isb, daemons, offers } = await startJoinedPair({ allocations: { join_seconds: 0.2, gone_seconds: 0.2 } });
  for (const other of ["C", "D"]) {
    const [{ allocation }] = await isb.allocate("A".repeat(43), `${other.repeat(42)}A`);
    expect(await isb.released.next()).toEqual({ allocation, code: "not-joined" });
  }
  expect((await daemons[0].join(offers[0])).peerJoined).toBe(true);
});

it("frees an allocation whose side is away too long, and not when it comes back in time", async () => {
  const { isb, daemons, offers } = await startJoinedPair({ allocations: { gone_seconds: 0.5 } });
  const [a, b] = daemons;
  const { allocation } = offers[0];
  await b.client.request("leave", { allocation });
  await b.join(offers[1]);
  await b.client.stop();
  expect(await a.released.next()).toEqual({ allocation, code: "silent" });
  expect(await isb.released.next()).toEqual({ allocation, code: "silent" });
});

it("ends everything of an allocation that its ISB releases, and does not echo it", async () => {
  const { isb, daemons, offers, ports } = await startJoinedPair();
  const { allocation } = offers[0];
  const [a, b] = [dial(ports[0][0]), dial(ports[0][1])];
  a.write("x");
  await b.bytes(1);
  await isb.release(allocation, "revoked");
  expect(await Promise.all([a.whenEnded(), b.whenEnded()])).toEqual(["reset", "reset"]);
  for (const daemon of daemons) expect(await daemon.released.next()).toEqual({ allocation, code: "revoked" });
  await isb.release(allocation);
  expect(isb.released.size).toBe(0);
});

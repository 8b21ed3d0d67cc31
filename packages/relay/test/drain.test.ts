import { expect, it } from "vitest";
import { dial, dialStream, startJoinedPair, startPair } from "./world.ts";

it("lets splices finish, takes nothing new meanwhile, and tells the ISB", async () => {
  const { relay, isb, daemons, offers, ports } = await startJoinedPair({ drain_seconds: 20 });
  const [a, b] = [dial(ports[0][0]), dial(ports[0][1])];
  a.write("before");
  await b.bytes(6);
  const stopped = relay.stop();
  expect(await isb.loads.next(({ draining }) => draining)).toMatchObject({ room: 0, allocations: 1 });
  const another = isb.allocate("A".repeat(43), `${"B".repeat(42)}A`);
  await expect(another).rejects.toMatchObject({ code: "shutting-down" });
  expect((await daemons[0].join(offers[0])).peerJoined).toBe(true);
  a.write("after");
  expect((await b.bytes(11)).toString()).toBe("beforeafter");
  a.end();
  b.end();
  expect(await Promise.all([a.whenEnded(), b.whenEnded()])).toEqual(["end", "end"]);
  await stopped;
  expect(await daemons[0].downs.next()).toBe("shutting-down");
});

it("lets nobody join for the first time while it drains", async () => {
  const { relay, isb, daemons, offers } = await startPair({ drain_seconds: 20 });
  const [a, b] = [dialStream(offers[0]), dialStream(offers[1])];
  a.write("x");
  await b.bytes(1);
  const stopped = relay.stop();
  await isb.loads.next(({ draining }) => draining);
  await expect(daemons[0].join(offers[0])).rejects.toMatchObject({ code: "shutting-down" });
  a.end();
  b.end();
  await stopped;
});

it("resets what has not finished in time, for the reason 'drained'", async () => {
  const { relay, offers, ports, metrics } = await startJoinedPair({ drain_seconds: 0.2 });
  const cell = [dial(ports[0][0]), dial(ports[0][1])] as const;
  const stream = [dialStream(offers[0]), dialStream(offers[1])] as const;
  for (const [a, b] of [cell, stream]) {
    a.write("x");
    await b.bytes(1);
  }
  await relay.stop();
  for (const leg of [...cell, ...stream]) expect(await leg.whenEnded()).toBe("reset");
  for (const at of ["cell", "stream"]) {
    expect(await metrics.value("closed_total", { at, reason: "drained" })).toBe(1);
    expect(await metrics.value("bytes_total", { at })).toBe(1);
  }
});

it("resets everything at once when it must", async () => {
  const { relay, ports } = await startJoinedPair({ drain_seconds: 20 });
  const [a, b] = [dial(ports[0][0]), dial(ports[0][1])];
  a.write("x");
  await b.bytes(1);
  const stopped = relay.stop();
  relay.abort();
  expect(await Promise.all([a.whenEnded(), b.whenEnded()])).toEqual(["reset", "reset"]);
  await stopped;
});

it("stops a relay whose start has failed, or never was", async () => {
  const { relay } = await startPair();
  await relay.stop();
  await relay.stop();
  expect(relay.problem).toBe("the data path is not open");
});

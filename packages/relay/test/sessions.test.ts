import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { expect, it, onTestFinished, vi } from "vitest";
import { TestDaemon } from "./test-daemon.ts";
import { TestIsb } from "./test-isb.ts";
import { dial, startJoinedPair, startPair, startRelay } from "./world.ts";

it("lets only devices of a living allocation log in", async () => {
  const { isb, offers, daemons } = await startPair();
  const nobody = new TestDaemon(isb.ist);
  nobody.client.start();
  await vi.waitUntil(() => nobody.client.lastError?.code === "unknown-allocation", { timeout: 10_000, interval: 10 });
  await isb.release(offers[0].allocation);
  await daemons[0].client.stop();
  const late = new TestDaemon(isb.ist, { identity: daemons[0].identity });
  late.client.start();
  await vi.waitUntil(() => late.client.lastError?.code === "unknown-allocation", { timeout: 10_000, interval: 10 });
});

it("wants the ticket of the very side", async () => {
  const { daemons, offers, isb } = await startPair();
  const [mine, others] = offers;
  await expect(daemons[0].join(others)).rejects.toMatchObject({ code: "bad-ticket" });
  await expect(daemons[0].join({ ...mine, ticket: others.ticket })).rejects.toMatchObject({ code: "bad-ticket" });
  const unknown = { ...mine, allocation: "0123456789abcdef" };
  await expect(daemons[0].join(unknown)).rejects.toMatchObject({ code: "unknown-allocation" });
  const third = new TestDaemon(isb.ist);
  await isb.allocate(third.key, daemons[1].key);
  await third.up();
  await expect(third.join(mine)).rejects.toMatchObject({ code: "bad-ticket" });
  expect((await daemons[0].join(mine)).side).toBe(0);
});

it("tells each side when the other joins, leaves, is lost and comes back", async () => {
  const { daemons, offers, isb } = await startJoinedPair();
  const [a, b] = daemons;
  const { allocation } = offers[0];
  await b.client.request("leave", { allocation });
  expect(await a.peers.next()).toEqual({ allocation, joined: false });
  expect((await b.join(offers[1])).peerJoined).toBe(true);
  expect(await a.peers.next()).toEqual({ allocation, joined: true });
  await b.client.stop();
  expect(await a.peers.next()).toEqual({ allocation, joined: false });
  expect((await a.join(offers[0])).peerJoined).toBe(false);
  const again = await new TestDaemon(isb.ist, { identity: b.identity }).up();
  await again.join(offers[1]);
  expect(await a.peers.next()).toEqual({ allocation, joined: true });
});

it("refuses everything of an allocation to whom has not joined it", async () => {
  const { daemons, offers } = await startPair();
  const [a] = daemons;
  const { allocation } = offers[0];
  for (const request of [
    a.client.request("leave", { allocation }),
    a.client.request("grow", { allocation, cells: 1 }),
    a.client.request("shrink", { allocation, cells: [0] }),
  ]) {
    await expect(request).rejects.toMatchObject({ code: "not-joined" });
  }
});

it("keeps one session per device: a newer one takes over, and its join counts", async () => {
  const { daemons, offers, isb } = await startJoinedPair();
  const [a, b] = daemons;
  const newer = await new TestDaemon(isb.ist, { identity: b.identity }).up();
  await newer.join(offers[1]);
  expect(await b.downs.next()).toBe("superseded");
  await b.client.stop();
  // The end of the old session is not taken for the end of the new one.
  a.send(offers[0], Buffer.from("for the newer one"));
  expect((await newer.frames.next()).frame.toString()).toBe("for the newer one");
});

it("expects legs from where the newest login came, and no longer from the old address", async () => {
  // The second public address is a proxy that gives its connections another source.
  const proxy = createServer();
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const isb = await TestIsb.start();
  const { relay } = await startRelay({
    isbs: [isb.broker],
    public: ["127.0.0.1", `127.0.0.1:${(proxy.address() as AddressInfo).port}`],
  });
  proxy.on("connection", (inner) => {
    const outer = connect({ port: relay.port, host: "127.0.0.1", localAddress: "127.0.0.4" });
    inner.on("error", () => outer.destroy());
    outer.on("error", () => inner.destroy());
    inner.pipe(outer).pipe(inner);
    onTestFinished(() => {
      inner.destroy();
      outer.destroy();
    });
  });
  onTestFinished(() => void proxy.close());
  await isb.held.next();
  const [a, b] = [new TestDaemon(isb.ist), new TestDaemon(isb.ist)];
  const offers = await isb.allocate(a.key, b.key);
  const offerOf = (daemon: TestDaemon) => offers[a.key < b.key === (daemon === a) ? 0 : 1];
  await Promise.all([a.up(), b.up()]);
  const { cells } = await a.join(offerOf(a));
  const { cells: cellsOfB } = await b.join(offerOf(b));
  const port = cells[0]!.port;

  await a.client.stop();
  const moved = await new TestDaemon(isb.ist, { identity: a.identity, address: 1 }).up();
  expect((await moved.join(offerOf(a))).cells).toEqual(cells);
  expect(await dial(port, "127.0.0.1", "127.0.0.1").whenEnded()).toBe("reset");
  const leg = dial(port, "127.0.0.1", "127.0.0.4");
  leg.write("from the new address");
  const peer = dial(cellsOfB[0]!.port);
  expect((await peer.bytes(20)).toString()).toBe("from the new address");
});

it("lets nobody log in who dialled an address that the IST does not call its own", async () => {
  const { isb, daemons } = await startPair();
  const other = { ...isb.ist, addresses: [isb.ist.addresses[0]!.replace("127.0.0.1", "127.0.0.8")] };
  await daemons[0].client.stop();
  const stray = new TestDaemon(other, { identity: daemons[0].identity });
  stray.client.start();
  await vi.waitUntil(() => stray.client.lastError?.code === "wrong-origin", { timeout: 10_000, interval: 10 });
});

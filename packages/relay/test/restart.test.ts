import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { type OpenOptions, type SocketSplicer, UserspaceDataPath } from "@isthmus/datapath";
import { silentLogger } from "@isthmus/service";
import { openStore } from "@isthmus/store";
import { expect, it, onTestFinished, vi } from "vitest";
import { RelayProcess } from "./child/run-relay.ts";
import { TestDaemon } from "./test-daemon.ts";
import { NO_LIMITS, TestIsb } from "./test-isb.ts";
import { dial, dialStream, startPair, startRelay, testConfig } from "./world.ts";

async function pairOf(isb: TestIsb) {
  const [a, b] = [new TestDaemon(isb.ist), new TestDaemon(isb.ist)].sort((x, y) => (x.key < y.key ? -1 : 1)) as [
    TestDaemon,
    TestDaemon,
  ];
  return { a, b, offers: await isb.allocate(a.key, b.key) };
}

it("goes on after kill -9: same ports, same tickets, same tokens, sessions come back by themselves", async () => {
  const isb = await TestIsb.start();
  const config = testConfig({ isbs: [isb.broker] });
  const first = new RelayProcess(config);
  const port = await first.up();
  const fixed = { ...config, listen: { ...config.listen, port } };
  await isb.held.next();
  const { a, b, offers } = await pairOf(isb);
  await Promise.all([a.up(), b.up()]);
  await a.join(offers[0]);
  const before = [await a.grow(offers[0], 2), (await b.join(offers[1])).cells];
  await first.kill();
  await a.downs.next();

  const second = new RelayProcess(fixed);
  expect(await second.up()).toBe(port);
  const held = await isb.held.next(({ last }) => last);
  expect(held.allocations).toEqual([{ allocation: offers[0].allocation, sides: [a.key, b.key] }]);
  const [legA, legB] = [dialStream(offers[0]), dialStream(offers[1])];
  legA.write("by token");
  expect((await legB.bytes(8)).toString()).toBe("by token");
  await Promise.all([a, b].map(({ client }) => client.whenUp(AbortSignal.timeout(10_000))));
  const after = [(await a.join(offers[0])).cells, (await b.join(offers[1])).cells];
  expect(after).toEqual(before);
  const [cellA, cellB] = [dial(after[0]![2]!.port), dial(after[1]![2]!.port)];
  cellA.write("by cell");
  expect((await cellB.bytes(7)).toString()).toBe("by cell");
  expect((await isb.allocate(a.key, b.key))[0]).toEqual(offers[0]);
});

it("gives new ports where the old ones are taken, and tells them", async () => {
  const isb = await TestIsb.start();
  const { relay, config } = await startRelay({ isbs: [isb.broker] });
  await isb.held.next();
  const { a, b, offers } = await pairOf(isb);
  await a.up();
  const before = (await a.join(offers[0])).cells;
  const { port } = relay;
  await a.client.stop();
  await relay.stop();
  const thief = createServer().listen(before[0]!.port, "127.0.0.1");
  await once(thief, "listening");
  onTestFinished(() => void thief.close());

  await startRelay({ ...config, listen: { ...config.listen, port } });
  await isb.held.next();
  const [c, d] = [a, b].map(({ identity }) => new TestDaemon(isb.ist, { identity })) as [TestDaemon, TestDaemon];
  await Promise.all([c.up(), d.up()]);
  const after = (await c.join(offers[0])).cells;
  expect(after[0]!.port).not.toBe(before[0]!.port);
  expect(after[1]).toEqual(before[1]);
  const leg = dial(after[0]!.port);
  const peer = dial((await d.join(offers[1])).cells[0]!.port);
  leg.write("new port");
  expect((await peer.bytes(8)).toString()).toBe("new port");
});

it("frees what nobody joins again after a restart", async () => {
  const isb = await TestIsb.start();
  const { relay, config } = await startRelay({ isbs: [isb.broker] });
  await isb.held.next();
  const { offers } = await pairOf(isb);
  await relay.stop();
  const second = await startRelay({ ...config, allocations: { gone_seconds: 0.3 } });
  const { allocation } = offers[0];
  expect((await isb.held.next()).allocations).toHaveLength(1);
  expect(await isb.released.next()).toEqual({ allocation, code: "not-joined" });
  await second.relay.stop();
  const store = await openStore(join(config.data!, "store"), { logger: silentLogger() });
  expect(await store.scan("allocation/")).toEqual([]);
  await store.close();
});

it("drops a record that it cannot read and keeps the others", async () => {
  const isb = await TestIsb.start();
  const { relay, config } = await startRelay({ isbs: [isb.broker] });
  await isb.held.next();
  const { offers } = await pairOf(isb);
  await relay.stop();
  const store = await openStore(join(config.data!, "store"), { logger: silentLogger() });
  await store.compareAndSet("allocation/0000000000000000", 0, { allocation: "0000000000000000", from: "the future" });
  await store.close();
  await startRelay(config);
  const { allocations } = await isb.held.next();
  expect(allocations.map(({ allocation }) => allocation)).toEqual([offers[0].allocation]);
});

it("refuses to run twice on a host, and says so; the lock is free as soon as its process is gone", async () => {
  const config = testConfig();
  const first = new RelayProcess(config);
  await first.up();
  await expect(startRelay(testConfig({ lock: config.lock! }))).rejects.toThrow(
    `another IST runs on this host (it holds the lock '${config.lock}')`,
  );
  await first.kill();
  await startRelay(testConfig({ lock: config.lock! }));
});

it("leaves nothing behind when it cannot start", async () => {
  const { relay } = await startPair();
  const config = testConfig({ listen: { port: relay.port, addresses: ["127.0.0.1"] } });
  await expect(startRelay(config)).rejects.toThrow(`cannot listen on 127.0.0.1 port ${relay.port}: EADDRINUSE`);
  await startRelay({ ...config, listen: { port: 0 } });
});

/** A data path whose splices and cells outlive the control plane, as those in the kernel do. */
class SurvivingDataPath extends UserspaceDataPath {
  #isOpen = false;

  constructor(splicer: SocketSplicer) {
    super({ logger: silentLogger(), splicer });
  }

  override async open(options: OpenOptions) {
    if (this.#isOpen) return this.#capabilities();
    await super.open(options);
    this.#isOpen = true;
    return this.#capabilities();
  }

  override async close(): Promise<void> {}

  #capabilities() {
    return {
      name: "userspace",
      silentDrop: false,
      survivesRestart: true,
      pure: false,
      fanout: false,
      udp: true,
      ipv6: true,
    } as const;
  }
}

it("takes over what a surviving data path holds, and ends what no record explains", async () => {
  const isb = await TestIsb.start();
  let dataPath: SurvivingDataPath | undefined;
  const parts = {
    dataPath: (splicer: SocketSplicer) => {
      dataPath ??= new SurvivingDataPath(splicer);
      return dataPath;
    },
  };
  const { relay, config } = await startRelay({ isbs: [isb.broker] }, parts);
  onTestFinished(async () => {
    for (const { allocation } of (await dataPath?.dump()) ?? []) await dataPath?.release(allocation, "released");
  });
  await isb.held.next();
  const { a, offers } = await pairOf(isb);
  await a.up();
  const before = (await a.join(offers[0])).cells;
  await a.client.stop();
  await relay.stop();
  await dataPath!.allocate({
    allocation: "00000000000000ff",
    cells: [{ cell: 0 }],
    sources: [[], []],
    limits: NO_LIMITS,
  });

  await startRelay({ ...config, allocations: { gone_seconds: 1 } }, parts);
  await isb.held.next();
  expect((await dataPath!.dump()).map(({ allocation }) => allocation).sort()).toEqual(
    ["00000000000000ff", offers[0].allocation].sort(),
  );
  const again = await new TestDaemon(isb.ist, { identity: a.identity }).up();
  expect((await again.join(offers[0])).cells).toEqual(before);
  await vi.waitUntil(
    async () => (await dataPath!.dump()).every(({ allocation }) => allocation !== "00000000000000ff"),
    { timeout: 10_000 },
  );
});

it("says what keeps its data path from working, and works at the stream endpoint meanwhile", async () => {
  class AbsentDataPath extends UserspaceDataPath {
    isAway = false;

    override get problem() {
      return this.isAway ? "the module is away" : undefined;
    }

    override async stats() {
      if (this.isAway) throw new Error("the module is away");
      return super.stats();
    }
  }
  let dataPath: AbsentDataPath | undefined;
  const isb = await TestIsb.start();
  const make = (splicer: SocketSplicer) => {
    dataPath = new AbsentDataPath({ logger: silentLogger(), splicer });
    return dataPath;
  };
  const { relay } = await startRelay({ isbs: [isb.broker], load_seconds: 0.05 }, { dataPath: make });
  await isb.held.next();
  expect((await relay.status())?.dataPath).not.toHaveProperty("problem");

  dataPath!.isAway = true;
  const status = await relay.status();
  expect(status).toMatchObject({ dataPath: { driver: "userspace", problem: "the module is away" }, cells: 0 });
  await vi.waitFor(() => expect(relay.problem).toBe("the module is away"), 10_000);
  const { offers } = await pairOf(isb);
  const [legA, legB] = [dialStream(offers[0]), dialStream(offers[1])];
  legA.write("by token");
  expect((await legB.bytes(8)).toString()).toBe("by token");
  dataPath!.isAway = false;
  expect((await relay.status())?.dataPath).not.toHaveProperty("problem");
});

import { createStaticKey, type Link } from "@isthmus/link";
import { IsthmusError } from "@isthmus/protocol";
import { createIdentity, silentLogger } from "@isthmus/service";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { IstConnections } from "../src/ist-connections.ts";
import { Links } from "../src/links.ts";
import { ScriptedIst } from "./support/scripted-ist.ts";

const WAIT = { timeout: 10_000, interval: 5 };

/** The ISTs' side of a daemon, and a link that nothing else is done with. */
function setUp() {
  const identity = createIdentity();
  const replaced: string[] = [];
  const frames: Buffer[] = [];
  const ists = new IstConnections({
    identity: () => identity,
    boot: "0011223344556677",
    allowInsecure: false,
    replace: (_link, ist) => replaced.push(ist),
    logger: silentLogger(),
  });
  const nothing = (): undefined => undefined;
  const links = new Links(
    () => identity,
    createStaticKey(),
    {
      sendViaIsb: (frame) => frames.push(frame) > 0,
      sendViaIst: (link, frame) => ists.send(link, frame),
      admit: () => {
        throw new IsthmusError("not-allowed");
      },
      keysLost: nothing,
      needAllocation: nothing,
      suspect: nothing,
      streamEnded: nothing,
      flowRefused: nothing,
      count: nothing,
      isNeeded: () => true,
    },
    silentLogger(),
  );
  onTestFinished(async () => {
    links.close();
    await ists.stop();
  });
  const use = (link: Link, offer: ReturnType<ScriptedIst["offer"]>) => {
    const meeting = link.setAllocation(offer);
    ists.use(link, meeting);
    return meeting;
  };
  const obtain = () => links.obtain(createIdentity().publicKey);
  return { ists, links, replaced, use, obtain };
}

const joined = (meeting: { joined: boolean }) => vi.waitFor(() => expect(meeting.joined).toBe(true), WAIT);

describe("allocations", () => {
  test("of one IST are joined over one session, and again over the next one", async () => {
    const ist = await ScriptedIst.start();
    const { ists, use, obtain } = setUp();
    const [a, b] = [obtain(), obtain()];
    const [first, second] = [use(a, ist.offer("aaaaaaaaaaaaaaaa")), use(b, ist.offer("bbbbbbbbbbbbbbbb"))];
    await Promise.all([joined(first), joined(second)]);
    expect(first).toMatchObject({ cells: [0, 1], peerJoined: true });
    expect(ists.report()).toMatchObject([{ name: "ist", state: "up", observed: expect.any(String) }]);
    ist.session.close("drained");
    await vi.waitFor(() => expect(first.joined).toBe(false), WAIT);
    expect(first).toMatchObject({ cells: [], peerJoined: false });
    await Promise.all([joined(first), joined(second)]);
    expect(ist.asked.slice(2).sort()).toEqual(["join aaaaaaaaaaaaaaaa", "join bbbbbbbbbbbbbbbb"]);
    expect(use(a, first.offer)).toBe(first);
    expect(ist.asked).toHaveLength(4);
  });

  test("hear of their peer and of further cells", async () => {
    const ist = await ScriptedIst.start();
    const { use, obtain } = setUp();
    const meeting = use(obtain(), ist.offer());
    await joined(meeting);
    const { allocation } = meeting.offer;
    ist.session.event("peer", { allocation, joined: false });
    ist.session.event("peer", { allocation: "00000000000000ff", joined: false });
    await vi.waitFor(() => expect(meeting.peerJoined).toBe(false), WAIT);
    await ist.session.request("cells", { allocation, cells: [{ cell: 4, port: 20_004 }] });
    expect(meeting.cells).toEqual([4]);
    await ist.session.request("cells", { allocation: "00000000000000ff", cells: [] });
    expect(meeting.cells).toEqual([4]);
  });

  test("say whether ports are kept on the way, and hear where a leg waits", async () => {
    const ist = await ScriptedIst.start();
    const { use, obtain } = setUp();
    const meeting = use(obtain(), ist.offer());
    await joined(meeting);
    // Nothing on loopback changes a port.
    expect(ist.keepsPorts).toEqual([true]);
    const { allocation } = meeting.offer;
    const heard: (number | undefined)[] = [];
    for (const cell of [2, 4]) meeting.nextHalf(cell, (port) => heard.push(port));
    ist.session.event("half", { allocation: "00000000000000ff", cell: 2, port: 1 });
    ist.session.event("half", { allocation, cell: 2, port: 5000 });
    ist.session.event("half", { allocation, cell: 4 });
    await vi.waitFor(() => expect(heard).toEqual([5000, undefined]), WAIT);
  });

  test("believe what came before the answer to the join, since it is newer", async () => {
    const ist = await ScriptedIst.start();
    const { use, obtain } = setUp();
    const offer = ist.offer();
    ist.onJoin = async () => {
      ist.session.event("peer", { allocation: offer.allocation, joined: false });
      await ist.session.request("cells", { allocation: offer.allocation, cells: [{ cell: 4, port: 20_004 }] });
    };
    const meeting = use(obtain(), offer);
    await joined(meeting);
    expect(meeting).toMatchObject({ cells: [4], peerJoined: false });
  });

  test("that the IST releases, or does not know, are replaced", async () => {
    const ist = await ScriptedIst.start();
    const { use, obtain, replaced } = setUp();
    const link = obtain();
    const first = use(link, ist.offer());
    await joined(first);
    ist.session.event("released", { allocation: first.offer.allocation, code: "silent" });
    await vi.waitFor(() => expect(replaced).toEqual([ist.address.key]), WAIT);
    expect(link.ist).toBeUndefined();
    ist.onJoin = () => {
      throw new IsthmusError("unknown-allocation");
    };
    use(link, ist.offer());
    await vi.waitFor(() => expect(replaced).toHaveLength(2), WAIT);
    expect(link.ist).toBeUndefined();
  });

  test("that a link does not have any more are released without a word", async () => {
    const [old, next] = [await ScriptedIst.start(), await ScriptedIst.start()];
    const { use, obtain, replaced } = setUp();
    const link = obtain();
    const former = use(link, old.offer());
    await joined(former);
    await joined(use(link, next.offer()));
    old.session.event("released", { allocation: former.offer.allocation, code: "released" });
    next.session.event("released", { allocation: former.offer.allocation, code: "released" });
    await old.session.request("cells", { allocation: former.offer.allocation, cells: [] });
    expect([replaced, link.ist?.joined]).toEqual([[], true]);
  });

  test("that could not be joined this time are tried again", async () => {
    const ist = await ScriptedIst.start();
    const { use, obtain } = setUp();
    ist.onJoin = () => {
      if (ist.asked.length === 1) throw new IsthmusError("rate-limited");
    };
    await joined(use(obtain(), ist.offer()));
    expect(ist.asked).toHaveLength(2);
  });

  test("that nothing meets at any more are left after a while, and then the IST", async () => {
    const ist = await ScriptedIst.start();
    const { ists, links, use, obtain } = setUp();
    const [a, b] = [obtain(), obtain()];
    await Promise.all([joined(use(a, ist.offer("aaaaaaaaaaaaaaaa"))), joined(use(b, ist.offer("bbbbbbbbbbbbbbbb")))]);
    const now = performance.now();
    a.dropAllocation();
    ists.tidy(links.all, now);
    ists.tidy(links.all, now + 29_000);
    expect(ist.asked).toHaveLength(2);
    ists.tidy(links.all, now + 31_000);
    await vi.waitFor(() => expect(ist.asked.slice(2)).toEqual(["leave aaaaaaaaaaaaaaaa"]), WAIT);
    b.dropAllocation();
    ists.tidy(links.all, now + 40_000);
    expect(ists.report()).toHaveLength(1);
    ists.tidy(links.all, now + 71_000);
    expect(ists.report()).toEqual([]);
    await vi.waitFor(() => expect(ist.asked.slice(3)).toEqual(["leave bbbbbbbbbbbbbbbb"]), WAIT);
  });

  test("that are used again in time stay", async () => {
    const ist = await ScriptedIst.start();
    const { ists, links, use, obtain } = setUp();
    const link = obtain();
    const meeting = use(link, ist.offer());
    await joined(meeting);
    const now = performance.now();
    link.dropAllocation();
    ists.tidy(links.all, now);
    use(link, meeting.offer);
    ists.tidy(links.all, now + 20_000);
    link.dropAllocation();
    ists.tidy(links.all, now + 40_000);
    expect(ists.report()).toHaveLength(1);
    expect(ist.asked.filter((one) => one.startsWith("leave"))).toEqual([]);
  });
});

describe("an IST", () => {
  test("that is away is told to be replaced, again and again, until it is back", async () => {
    const ist = await ScriptedIst.start();
    const { ists, use, obtain, replaced } = setUp();
    const { key, addresses } = ist.address;
    // Nobody listens there.
    use(obtain(), { ...ist.offer(), ist: { ...ist.address, addresses: ["127.0.0.1:9"] } });
    await vi.waitFor(() => expect(replaced.length).toBeGreaterThanOrEqual(2), WAIT);
    expect(new Set(replaced)).toEqual(new Set([key]));
    expect(ists.report()).toMatchObject([{ state: "connecting", code: "disconnected" }]);
    await joined(use(obtain(), { ...ist.offer(), ist: { ...ist.address, addresses } }));
    const before = replaced.length;
    await new Promise((resolve) => setTimeout(resolve, 800));
    expect(replaced.length).toBe(before);
  });

  test("that has another address takes all allocations along; what its old session still says has no effect", async () => {
    const old = await ScriptedIst.start();
    const { ists, use, obtain } = setUp();
    const [a, b] = [obtain(), obtain()];
    const answer = Promise.withResolvers<void>();
    old.onJoin = (allocation) => (allocation.startsWith("b") ? answer.promise : undefined);
    const first = use(a, old.offer("aaaaaaaaaaaaaaaa"));
    const second = use(b, old.offer("bbbbbbbbbbbbbbbb"));
    await joined(first);
    const moved = await ScriptedIst.start(old.identity);
    moved.onJoin = (allocation) => {
      if (!allocation.startsWith("a")) throw new IsthmusError("rate-limited");
    };
    const c = use(obtain(), moved.offer("cccccccccccccccc"));
    expect(first.joined).toBe(false);
    // The answer of the old session arrives while that is being closed.
    answer.resolve();
    await joined(first);
    await vi.waitFor(() => expect(moved.asked.length).toBeGreaterThanOrEqual(3), WAIT);
    expect([second.joined, c.joined]).toEqual([false, false]);
    expect(ists.report()).toMatchObject([{ origin: `ws://${moved.address.addresses[0]}`, state: "up" }]);
  });
});

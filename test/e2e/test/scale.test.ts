import { portOf, type TwoHomes, twoHomes, until } from "@isthmus/e2e";
import { Lab, type Program } from "@isthmus/lab";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allWhole, EchoClient, EchoServer } from "./fixtures/echo.ts";

const MIB = 1024 * 1024;
const AT_ONCE = 1000;
const IN_TURN = 40_000;
/** Each has one connection at a time. */
const WORKERS = 8;

/** A heap that leaves little room for what nobody needs any more: what grows then is what was forgotten. */
const SMALL_HEAP = { NODE_OPTIONS: "--max-semi-space-size=2 --max-old-space-size=64" };
const MOST_GROWTH = 8 * MIB;

/** Cells beyond the first are given back after half a minute without use, and descriptors with them. */
const CELLS_RETURN_MS = 90_000;

describe("over one subscription", () => {
  let lab: Lab;
  let homes: TwoHomes;
  let server: EchoServer;
  let port: number;
  let programs: Record<"alice" | "bob" | "ist" | "isb", Program>;
  let atRest: ReturnType<typeof descriptors>;

  beforeAll(async () => {
    lab = await Lab.create();
    homes = await twoHomes(lab, { env: SMALL_HEAP });
    const { alice, bob, deployment } = homes;
    programs = {
      alice: alice.program,
      bob: bob.program,
      ist: deployment.ist.program,
      isb: deployment.isb.program,
    };
    server = await EchoServer.start(bob.node, 7000);
    await bob.provide("echo", "--tcp", "127.0.0.1:7000", "--allow", "alice");
    port = portOf(await alice.subscribe("echo@bob"));
    await EchoClient.inTurn(alice.node, port, { count: 1, workers: 1 }).report();
    atRest = descriptors();
  });

  afterAll(async () => {
    await lab?.destroy();
  });

  it(`${AT_ONCE} connections are open at once, and all of them are whole`, async () => {
    const { alice, bob } = homes;
    const before = descriptors();
    const messages = await messagesAtIsb();

    const client = EchoClient.atOnce(alice.node, port, AT_ONCE);
    await client.allOpen();
    const open = {
      server: (await server.counts()).open,
      alice: await alice.metric("isthmus_daemon_streams"),
      bob: await bob.metric("isthmus_daemon_streams"),
    };
    client.end();

    expect(await client.report()).toEqual(allWhole(AT_ONCE));
    expect(open).toEqual({ server: AT_ONCE, alice: AT_ONCE, bob: AT_ONCE });
    expect(await messagesAtIsb()).toEqual(messages);
    // The IST keeps its cells for a while: it is looked at in the end.
    await descriptorsAre({ alice: before.alice, bob: before.bob });
  });

  it(`${IN_TURN} connections one after the other are whole, and leave nothing behind`, {
    timeout: 400_000,
  }, async () => {
    const { alice } = homes;
    const { taken } = await server.counts();
    const messages = await messagesAtIsb();
    // What the programs take for themselves they have taken after a quarter.
    const inTurn = (count: number) => EchoClient.inTurn(alice.node, port, { count, workers: WORKERS }).report(300_000);

    const first = await inTurn(IN_TURN / 4);
    const settled = memory();
    const rest = await inTurn((IN_TURN / 4) * 3);
    const grown = memory();

    expect(first).toEqual(allWhole(IN_TURN / 4));
    expect(rest).toEqual(allWhole((IN_TURN / 4) * 3));
    expect((await server.counts()).taken - taken).toBe(IN_TURN);
    expect(await messagesAtIsb()).toEqual(messages);
    for (const name of ["alice", "bob", "ist", "isb"] as const) {
      expect(grown[name] - settled[name], `what ${name} has grown by`).toBeLessThan(MOST_GROWTH);
    }
    await descriptorsAre(atRest);
  });

  function descriptors(): Record<keyof typeof programs, number> {
    return each(({ descriptors: count }) => count);
  }

  function memory(): Record<keyof typeof programs, number> {
    return each(({ rssBytes }) => rssBytes);
  }

  function each(read: (resources: ReturnType<Program["resources"]>) => number) {
    const entries = Object.entries(programs).map(([name, program]) => [name, read(program.resources())]);
    return Object.fromEntries(entries) as Record<keyof typeof programs, number>;
  }

  /** Resolves when no program has more descriptors than before. */
  async function descriptorsAre(before: Partial<ReturnType<typeof descriptors>>): Promise<void> {
    await until(
      "all descriptors are closed",
      () => {
        const now = descriptors();
        const isMore = Object.entries(before).some(([name, count]) => now[name as keyof typeof now] > count);
        if (isMore) throw new Error(`${JSON.stringify(now)} instead of ${JSON.stringify(before)}`);
        return true;
      },
      CELLS_RETURN_MS,
    );
  }

  /** All that the ISB was ever told, apart from the load that each IST reports now and then. */
  async function messagesAtIsb(): Promise<string[]> {
    const page = await homes.deployment.isb.metrics();
    const counters = /^isthmus_isb_(messages_received|messages_refused|control_frames)_total\{/;
    return page.split("\n").filter((line) => counters.test(line) && !line.includes('role="ist",type="load"'));
  }
});

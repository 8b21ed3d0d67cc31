import { once } from "node:events";
import { createServer, type Server } from "node:net";
import type { AllocationOffer, Cell, Code } from "@isthmus/protocol";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { IstMeeting } from "../src/meeting/ist-meeting.ts";
import { LegDialer } from "../src/meeting/leg-dialer.ts";
import { type Endpoint, Leg, type Stream } from "../src/open/stream.ts";
import { agreement } from "./agreement.ts";

const ALLOCATION = "0000000000000001";
const HALF_MS = 3500;
const offer: AllocationOffer = {
  ist: { key: "k", name: "ist", addresses: ["127.0.0.1:443"], secure: true },
  allocation: ALLOCATION,
  side: 0,
  ticket: "t",
  token: "s",
};

/** A port of loopback where an IST's cell would be, and where connections to it come from. */
async function listen(): Promise<{ server: Server; port: number; sources: number[] }> {
  const sources: number[] = [];
  const server = createServer((socket) => {
    sources.push(socket.remotePort!);
    socket.on("error", () => undefined);
    onTestFinished(() => void socket.destroy());
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return { server, port: portOf(server), sources };
}

function portOf(server: Server): number {
  return (server.address() as { port: number }).port;
}

/** A port that nobody has. */
async function freePort(): Promise<number> {
  const { server, port } = await listen();
  server.close();
  await once(server, "close");
  return port;
}

/** A leg of this side at a pure cell, and what becomes of it. */
function dial(cell: Omit<Cell, "cell">): { meeting: IstMeeting; leg: Leg; up: Endpoint[]; lost: Code[] } {
  const meeting = new IstMeeting(offer, () => performance.now());
  const limits = { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: HALF_MS };
  const requests = { grow: async () => undefined, shrink: async () => undefined };
  meeting.setJoined({ host: "127.0.0.1", port: 443 }, [{ cell: 2, ...cell }], limits, requests);
  const dialer = new LegDialer({
    ist: () => meeting,
    direct: () => undefined,
    openByLeg: () => undefined,
    refused: () => undefined,
  });
  const up: Endpoint[] = [];
  const lost: Code[] = [];
  const { initiator } = agreement();
  const stream = {
    generation: initiator,
    openId: 0,
    legUp: ({ endpoint }: Leg) => up.push(endpoint!),
    legLost: (_leg: Leg, code: Code) => lost.push(code),
    legEnd: () => undefined,
    legData: () => undefined,
    legDrained: () => undefined,
  } as unknown as Stream;
  const leg = new Leg(stream, 0, { at: "cell", allocation: ALLOCATION, cell: 2, mode: "pure" }, {} as never);
  dialer.dial(stream, leg);
  onTestFinished(() => void leg.endpoint?.reset());
  return { meeting, leg, up, lost };
}

describe("a leg to a pure cell", () => {
  it("whose ports were agreed on comes from the one and goes to the other", async () => {
    const { port, sources } = await listen();
    const source = await freePort();
    const { up } = dial({ port, pure: { source } });
    await vi.waitFor(() => expect(up).toHaveLength(1));
    await vi.waitFor(() => expect(sources).toEqual([source]));
  });

  it("whose port is learned by the other side comes from any", async () => {
    const { port, sources } = await listen();
    const { up } = dial({ port, pure: {} });
    await vi.waitFor(() => expect(up).toHaveLength(1));
    await vi.waitFor(() => expect(sources).toHaveLength(1));
  });

  it("goes where the IST says that the peer's leg waits, though that was said before", async () => {
    const places = [await listen(), await listen()] as const;
    const source = await freePort();
    const first = dial({ port: 0, pure: { source } });
    expect(first.up).toEqual([]);
    // Another cell's.
    first.meeting.half(4, places[1].port);
    first.meeting.half(2, places[0].port);
    await vi.waitFor(() => expect(places[0].sources).toEqual([source]));
    // One source port serves any number of connections, since each goes to another port.
    const second = dial({ port: 0, pure: { source } });
    second.meeting.half(2, places[1].port);
    await vi.waitFor(() => expect(places[1].sources).toEqual([source]));
  });

  it.each([
    ["its source port is taken here", async () => dial({ port: await freePort(), pure: { source: await taken() } })],
    ["the IST refuses it", async () => dial({ port: await freePort(), pure: { source: await freePort() } })],
    [
      "the IST's own host has the port",
      async () => {
        const dialled = dial({ port: 0, pure: { source: await freePort() } });
        dialled.meeting.half(2, undefined);
        return dialled;
      },
    ],
  ] as const)("is given up at once, for another way, when %s", async (_, dialOne) => {
    const { lost, up } = await dialOne();
    await vi.waitFor(() => expect(lost).toEqual(["unsupported-rendezvous"]));
    expect(up).toEqual([]);
  });

  it("that is given up while it waits for the IST's word goes nowhere", async () => {
    const { port, sources } = await listen();
    const { meeting, leg, lost, up } = dial({ port: 0, pure: { source: await freePort() } });
    leg.endpoint!.reset();
    leg.isDropped = true;
    meeting.half(2, port);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect([lost, up, sources]).toEqual([[], [], []]);
  });

  it("needs a cell that is pure", async () => {
    const { lost } = dial({ port: await freePort() });
    await vi.waitFor(() => expect(lost).toEqual(["unknown-allocation"]));
  });
});

/** A port of loopback that somebody listens on. */
async function taken(): Promise<number> {
  return (await listen()).port;
}

describe("pure cells", () => {
  const cells: Cell[] = [
    { cell: 0, port: 20_000 },
    { cell: 2, port: 20_002, pure: { source: 20_003 } },
    { cell: 4, port: 20_004, pure: {} },
    { cell: 1, port: 20_001 },
  ];

  function join() {
    let now = 0;
    const grown: boolean[] = [];
    const meeting = new IstMeeting(offer, () => now);
    const requests = { grow: async (_: number, pure: boolean) => void grown.push(pure), shrink: async () => undefined };
    const limits = { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: HALF_MS };
    meeting.setJoined({ host: "192.0.2.1", port: 443 }, cells, limits, requests);
    meeting.peerJoined = true;
    const wait = (ms: number): void => {
      now += ms;
    };
    const choose = (attempt = 0) => {
      const rendezvous = meeting.choose(attempt);
      if (rendezvous.at !== "cell") return { rendezvous, where: rendezvous.at };
      return { rendezvous, where: `${rendezvous.mode} ${rendezvous.cell}` };
    };
    return { meeting, choose, wait, grown };
  }

  it("are chosen first, agreed ones before others; when all are busy more are asked for", async () => {
    const { choose, grown } = join();
    expect([choose().where, choose().where, choose().where]).toEqual(["pure 2", "pure 4", "passive 0"]);
    await Promise.resolve();
    expect(grown).toEqual([true]);
    expect(choose().where).toBe("stream");
  });

  it("of agreed ports are one connection's until it ends, and nobody's for a minute after it", () => {
    const { meeting, choose, wait } = join();
    const { rendezvous } = choose();
    meeting.settled(rendezvous, "tcp", "joined");
    wait(100_000);
    expect(choose().where).toBe("pure 4");
    meeting.ended(rendezvous);
    wait(60_000);
    expect(choose().where).toBe("passive 0");
    wait(5000);
    expect(choose().where).toBe("pure 2");
  });

  it("whose port is learned are free as soon as legs have met there", () => {
    const { meeting, choose } = join();
    choose();
    for (let open = 0; open < 3; open++) {
      const { rendezvous, where } = choose();
      expect(where).toBe("pure 4");
      meeting.settled(rendezvous, "tcp", "joined");
      meeting.ended(rendezvous);
    }
  });

  it("are left for passive ones by the next attempt of an open, and by all opens when two have failed", () => {
    const { meeting, choose, wait } = join();
    for (let open = 0; open < 2; open++) {
      const first = choose();
      expect(first.where).toMatch(/^pure/);
      meeting.settled(first.rendezvous, "tcp", "failed");
      const second = choose(1);
      expect(second.where).toBe("passive 0");
      meeting.settled(second.rendezvous, "tcp", "joined");
    }
    expect([meeting.pure, meeting.avoidsCells]).toEqual(["avoided", false]);
    const { rendezvous, where } = choose();
    expect(where).toBe("passive 0");
    meeting.settled(rendezvous, "tcp", "joined");
    wait(30_000);
    expect([meeting.pure, choose().where]).toEqual(["used", "pure 4"]);
  });

  it("that fail together with passive ones are not to blame: no cell is used for a while", () => {
    const { meeting, choose } = join();
    meeting.settled(choose().rendezvous, "tcp", "failed");
    meeting.settled(choose(1).rendezvous, "tcp", "failed");
    expect(choose(0).where).toBe("stream");
  });

  it("are none of datagrams", () => {
    const { meeting } = join();
    expect(meeting.chooseUdp()).toMatchObject({ cell: 0, mode: "passive" });
    expect(meeting.chooseUdp()).toBeUndefined();
  });

  it("have no passive address, nor passive ones a pure one", () => {
    const { meeting } = join();
    expect(meeting.cellAddress(0)).toEqual({ host: "192.0.2.1", port: 20_000 });
    expect(meeting.cellAddress(2)).toBeUndefined();
    expect(meeting.pureAddress(0)).toBeUndefined();
    expect(meeting.pureAddress(2)).toEqual({ address: { host: "192.0.2.1", port: 20_002 }, source: 20_003 });
  });
});

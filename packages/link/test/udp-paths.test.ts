import type { LinkControlMessage } from "@isthmus/protocol";
import { describe, expect, it } from "vitest";
import { type Generation, IdWindow } from "../src/index.ts";
import { type CarrierEvents, UdpPaths } from "../src/udp/paths.ts";
import { agreement } from "./agreement.ts";

/** Two sides of a generation, with what carries their paths, and what one told the other over control. */
class World {
  allocation = "0011223344556677";
  /** Nothing passes but what is on a stream. */
  isUdpBlocked = false;
  readonly told: LinkControlMessage[] = [];
  readonly mine: UdpPaths;
  readonly peers: UdpPaths;
  readonly #carriers = new Map<string, CarrierEvents>();
  #nextId = 0;

  constructor() {
    const { initiator, responder } = agreement();
    this.mine = this.#paths("mine", initiator);
    this.peers = this.#paths("peers", responder);
  }

  #paths(side: "mine" | "peers", generation: Generation): UdpPaths {
    const world = this;
    const other = side === "mine" ? "peers" : "mine";
    return new UdpPaths(
      {
        generation,
        peerOpens: new IdWindow(),
        nextOpenId: () => 2 * this.#nextId++,
        tell: (message) => void (side === "mine" && this.told.push(message)),
        get allocation() {
          return world.allocation;
        },
        choose: (onStream) => {
          const { allocation } = this;
          return onStream ? { at: "stream", allocation } : { at: "cell", allocation, cell: 0, mode: "passive" };
        },
        settled: () => undefined,
        carry: ({ id }, { at }, events) => {
          this.#carriers.set(`${side} ${id}`, events);
          setImmediate(() => events.ready());
          return {
            send: (datagram) => {
              if (at === "cell" && this.isUdpBlocked) return;
              this.#carriers.get(`${other} ${id}`)?.datagram(Buffer.from(datagram));
            },
            close: () => void this.#carriers.delete(`${side} ${id}`),
          };
        },
        count: () => undefined,
      },
      { received: () => undefined, up: () => undefined, due: () => undefined },
    );
  }

  /** The peer hears what it was told, from this message on. */
  hear(from: number): void {
    for (const message of this.told.slice(from)) if (message.t === "open") this.peers.openByPeer(message, this.now);
  }

  get now(): number {
    return performance.now();
  }

  /** Resolves when both sides use the path of this id. */
  async bothUse(id: number): Promise<void> {
    await expect
      .poll(() => {
        this.mine.tick(this.now, use);
        this.peers.tick(this.now, use);
        return [this.mine.best?.id, this.peers.best?.id];
      })
      .toEqual([id, id]);
  }
}

const use = { lastUsed: Number.POSITIVE_INFINITY, isWanted: true };
const open = (id: number) => ({ t: "open", id, attempt: 0, proto: "udp" });

describe("a UDP path", () => {
  it("is told to the peer again until it is proved, since the peer may not have been there to hear it", async () => {
    const world = new World();
    const start = world.now;
    world.mine.tick(start, use);
    expect(world.told).toMatchObject([open(0)]);
    expect(world.mine.wakeAt(start, true)).toBeLessThanOrEqual(start + 1000);

    world.mine.tick(start + 900, use);
    expect(world.told).toHaveLength(1);
    world.mine.tick(start + 1000, use);
    expect(world.told).toMatchObject([open(0), open(0)]);

    world.hear(1);
    await world.bothUse(0);
    world.mine.tick(start + 3000, use);
    expect(world.told).toHaveLength(2);
  });

  it("is told again at once when the peer has come back", () => {
    const world = new World();
    world.mine.tick(world.now, use);
    world.mine.meetingReady(world.now);
    world.mine.tick(world.now, use);
    expect(world.told).toMatchObject([open(0), open(0)]);
  });

  it("is replaced when its IST was, and serves until then", async () => {
    const world = new World();
    world.mine.tick(world.now, use);
    world.hear(0);
    await world.bothUse(0);

    world.allocation = "8899aabbccddeeff";
    world.mine.meetingReady(world.now);
    world.mine.tick(world.now, use);
    expect(world.told).toMatchObject([open(0), { ...open(2), rendezvous: { allocation: world.allocation } }]);
    expect(world.mine.best?.id).toBe(0);
    world.hear(1);
    await world.bothUse(2);
    world.mine.tick(world.now + 2000, use);
    expect(world.mine.size).toBe(1);
  });

  it("gets a stream beside it where it is not proved, and takes its place when it is after all", async () => {
    const world = new World();
    world.isUdpBlocked = true;
    // The path begins between these two, however long that takes.
    const before = world.now;
    world.mine.tick(before, use);
    const after = world.now;
    world.mine.tick(before + 1400, use);
    expect(world.told).toHaveLength(2);
    world.mine.tick(after + 1500, use);
    expect(world.told.slice(2)).toMatchObject([{ ...open(2), rendezvous: { at: "stream" } }]);
    world.mine.tick(after + 1600, use);
    world.hear(1);
    await world.bothUse(2);
    expect(world.told).toHaveLength(3);

    world.isUdpBlocked = false;
    await world.bothUse(0);
  });

  it("that is not proved is given up for one at another IST", () => {
    const world = new World();
    world.mine.tick(world.now, use);
    world.allocation = "8899aabbccddeeff";
    world.mine.meetingReady(world.now);
    world.mine.tick(world.now, use);
    expect(world.told).toMatchObject([open(0), { t: "cancel", id: 0 }, open(2)]);
    expect(world.mine.size).toBe(1);
  });
});

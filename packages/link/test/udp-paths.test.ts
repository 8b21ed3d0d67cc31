import type { LinkControlMessage } from "@isthmus/protocol";
import { describe, expect, it } from "vitest";
import { IdWindow } from "../src/index.ts";
import { type CarrierEvents, type PathsWorld, UdpPaths } from "../src/udp/paths.ts";
import { agreement } from "./agreement.ts";

const ALLOCATION = "0011223344556677";

/** The paths of a subscriber's side, on carriers that reach its peer when that is there. */
function twoSides() {
  const keys = agreement();
  const told: LinkControlMessage[] = [];
  const carriers: { mine?: CarrierEvents; peers?: CarrierEvents } = {};
  let nextId = 0;
  const world = (side: "mine" | "peers"): PathsWorld => ({
    generation: side === "mine" ? keys.initiator : keys.responder,
    peerOpens: new IdWindow(),
    nextOpenId: () => 2 * nextId++,
    tell: (message) => void (side === "mine" && told.push(message)),
    choose: () => ({ at: "cell", allocation: ALLOCATION, cell: 0, mode: "passive" }),
    settled: () => undefined,
    carry: (_path, _rendezvous, events) => {
      carriers[side] = events;
      setImmediate(() => events.ready());
      return {
        send: (datagram) => carriers[side === "mine" ? "peers" : "mine"]?.datagram(Buffer.from(datagram)),
        close: () => undefined,
      };
    },
    count: () => undefined,
  });
  const events = { received: () => undefined, up: () => undefined, due: () => undefined };
  return { mine: new UdpPaths(world("mine"), events), peers: new UdpPaths(world("peers"), events), told };
}

const use = { lastUsed: Number.POSITIVE_INFINITY, isWanted: true };

describe("a UDP path", () => {
  it("is told to the peer again until it is proved, since the peer may not have been there to hear it", async () => {
    const { mine, peers, told } = twoSides();
    const start = performance.now();
    mine.tick(start, use);
    const announcement = { t: "open", id: 0, attempt: 0, proto: "udp" };
    expect(told).toMatchObject([announcement]);
    expect(mine.wakeAt(start, true)).toBeLessThanOrEqual(start + 1000);

    mine.tick(start + 900, use);
    expect(told).toHaveLength(1);
    mine.tick(start + 1000, use);
    expect(told).toMatchObject([announcement, announcement]);

    peers.openByPeer(told[1] as Extract<LinkControlMessage, { t: "open" }>, start + 1000);
    await expect
      .poll(() => {
        const now = performance.now();
        mine.tick(now, use);
        peers.tick(now, use);
        return [mine.best?.id, peers.best?.id];
      })
      .toEqual([0, 0]);
    mine.tick(start + 3000, use);
    expect(told).toHaveLength(2);
  });
});

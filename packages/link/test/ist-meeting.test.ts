import type { AllocationOffer, Cell } from "@isthmus/protocol";
import { describe, expect, it } from "vitest";
import { IstMeeting } from "../src/meeting/ist-meeting.ts";
import type { LegOutcome } from "../src/open/stream.ts";

const HALF_MS = 3500;
const AVOID_MS = 30_000;

const offer: AllocationOffer = {
  ist: { key: "k", name: "ist", addresses: ["192.0.2.1:443"], secure: true },
  allocation: "0000000000000001",
  side: 0,
  ticket: "t",
  token: "s",
};
const cells: Cell[] = Array.from({ length: 16 }, (_, n) => ({ cell: n, port: 20_000 + n }));
const limits = { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs: HALF_MS };
const noRequests = { grow: async () => undefined, shrink: async () => undefined };

/** An allocation that both sides have joined, with a clock of its own. */
class Meeting {
  now = 0;
  readonly ist = new IstMeeting(offer, () => this.now);

  constructor() {
    this.join();
  }

  join(): void {
    this.ist.setJoined({ host: "192.0.2.1", port: 443 }, cells, limits, noRequests);
    this.ist.peerJoined = true;
  }

  /** One open: the outcome of each attempt at a cell is given. @returns where the attempts met */
  open(atCells: LegOutcome): string[] {
    const places: string[] = [];
    for (let attempt = 0; attempt < 3; attempt++) {
      const rendezvous = this.ist.choose(attempt);
      places.push(rendezvous.at);
      const outcome = rendezvous.at === "cell" ? atCells : "joined";
      this.ist.settled(rendezvous, "tcp", outcome);
      if (outcome !== "failed") break;
      this.now += 1000;
    }
    return places;
  }
}

describe("an allocation whose cells cannot be reached", () => {
  it("costs one open two attempts, and those that follow none", () => {
    const meeting = new Meeting();
    expect(meeting.open("failed")).toEqual(["cell", "cell", "stream"]);
    expect(meeting.open("failed")).toEqual(["stream"]);
    expect(meeting.ist.avoidsCells).toBe(true);
  });

  it("is tried again after a while, and after twice as long the next time", () => {
    const meeting = new Meeting();
    for (const times of [1, 2, 4]) {
      expect(meeting.open("failed")).toEqual(["cell", "cell", "stream"]);
      meeting.now += times * AVOID_MS - 2000;
      expect(meeting.open("failed")).toEqual(["stream"]);
      meeting.now += 2000;
    }
    expect(meeting.open("joined")).toEqual(["cell"]);
    expect(meeting.open("failed")).toEqual(["cell", "cell", "stream"]);
    meeting.now += AVOID_MS;
    expect(meeting.open("joined")).toEqual(["cell"]);
  });

  it("is tried at once when the session to the IST was made anew", () => {
    const meeting = new Meeting();
    meeting.open("failed");
    meeting.ist.setLeft();
    meeting.join();
    expect(meeting.open("joined")).toEqual(["cell"]);
  });
});

it("a leg for which nobody waited any more says nothing of the cells", () => {
  const meeting = new Meeting();
  for (let open = 0; open < 5; open++) expect(meeting.open("given-up")).toEqual(["cell"]);
  expect(meeting.ist.avoidsCells).toBe(false);
});

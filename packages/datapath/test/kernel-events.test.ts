import type { IstSplice, IstState } from "@isthmus/native/netlink";
import { describe, expect, it } from "vitest";
import { KernelCounters } from "../src/kernel/kernel-counters.ts";
import { SpliceEvents } from "../src/kernel/splice-events.ts";

const AT = { allocation: "00000000000000a1", cell: 4, proto: "tcp" } as const;

function told(state: IstState, more: Partial<IstSplice> = {}): IstSplice {
  return { id: 7n, alloc: 0xa1n, cell: 4, proto: 6, state, ...more };
}

describe("events of the kernel", () => {
  it("become one each of pairing, establishing and end", () => {
    const events = new SpliceEvents();
    const states: [IstSplice, string[]][] = [
      [told("syn-rcvd"), ["paired"]],
      [told("established"), ["established"]],
      [told("close-wait"), []],
      [told("time-wait", { reason: "finished" }), ["closed"]],
      // A late reset.
      [told("closed", { reason: "finished" }), []],
    ];
    for (const [splice, expected] of states) expect(events.splice(splice).map(({ event }) => event)).toEqual(expected);
  });

  it("carry where, which and why", () => {
    const events = new SpliceEvents();
    expect(events.splice(told("syn-rcvd"))).toEqual([{ event: "paired", ...AT, splice: 7 }]);
    expect(events.splice(told("closed", { reason: "reset" }))).toEqual([
      { event: "closed", ...AT, splice: 7, code: "reset" },
    ]);
    const half = { alloc: 0xa1n, cell: 4, proto: 6, side: 1, remote: Uint8Array.of(192, 0, 2, 1), remotePort: 5000 };
    const source = { host: "192.0.2.1", port: 5000 };
    expect(events.half(half)).toEqual({ event: "half", ...AT, side: 1, source });
    expect(events.half({ ...half, reason: "replaced" })).toEqual({ event: "closed", ...AT, code: "replaced" });
  });

  it("tell how many splices pass ports unchanged", () => {
    const events = new SpliceEvents();
    events.splice(told("syn-rcvd", { mode: "pure" }));
    events.splice(told("syn-rcvd", { id: 8n, mode: "passive" }));
    expect(events.pure).toBe(1);
    events.splice(told("closed", { mode: "pure", reason: "reset" }));
    expect(events.pure).toBe(0);
    events.reset([told("established", { mode: "pure" }), told("established", { id: 9n, mode: "pure" })]);
    expect(events.pure).toBe(2);
  });

  it("of UDP, which is established at once, are both", () => {
    const events = new SpliceEvents().splice(told("established", { proto: 17 }));
    expect(events.map(({ event }) => event)).toEqual(["paired", "established"]);
  });

  it("of a splice that was reset and goes on begin anew", () => {
    const events = new SpliceEvents();
    events.splice(told("established"));
    expect(events.splice(told("closed", { reason: "reset" }))).toHaveLength(1);
    expect(events.splice(told("established")).map(({ event }) => event)).toEqual(["paired", "established"]);
    expect(events.splice(told("closed", { reason: "reset" }))).toHaveLength(1);
  });

  it("go on from a list, and end when everything is lost", () => {
    const events = new SpliceEvents();
    events.splice(told("syn-rcvd", { id: 1n }));
    events.reset([
      told("syn-rcvd", { id: 2n }),
      told("established", { id: 3n }),
      told("time-wait", { reason: "finished" }),
    ]);
    expect(events.splice(told("closed", { id: 1n, reason: "reset" }))).toEqual([]);
    expect(events.splice(told("established", { id: 2n })).map(({ event }) => event)).toEqual(["established"]);
    expect(events.lost()).toEqual([2, 3].map((splice) => ({ event: "closed", ...AT, splice, code: "reset" })));
    expect(events.lost()).toEqual([]);
  });
});

describe("the counters", () => {
  const stats = (bytes: number, resets: number, strangers: number) => ({
    splices: 1,
    bytes: BigInt(bytes),
    reasonCount: [
      { reason: "reset", ended: BigInt(resets), packets: 0n } as const,
      { reason: "stranger", ended: 0n, packets: BigInt(strangers) } as const,
    ],
  });

  it("start at zero, and go on when the module is loaded anew", () => {
    const counters = new KernelCounters();
    counters.start(stats(100, 10, 0));
    expect(counters.take(stats(100, 10, 0))).toMatchObject({ bytes: 0, closed: {}, dropped: {} });
    expect(counters.take(stats(150, 12, 3))).toMatchObject({
      splices: 1,
      bytes: 50,
      closed: { reset: 2 },
      dropped: { stranger: 3 },
    });
    counters.pause();
    counters.start(stats(0, 0, 0));
    expect(counters.take(stats(7, 0, 1))).toMatchObject({ bytes: 57, closed: { reset: 2 }, dropped: { stranger: 4 } });
  });
});

import { expect, it } from "vitest";
import { type Ageing, endOf, nextSynAck } from "../src/ebpf/ageing.ts";

const NO_LIMITS = { idleMs: 0, totalMs: 0, udpIdleMs: 60_000 };
const tcp: Ageing = { isUdp: false, state: "established", isOver: false, created: 1000, heard: 5000 };

it.each([
  ["an established one after two hours and four minutes", tcp, NO_LIMITS, 7_445_000, "idle-limit"],
  ["one that nobody answers a minute after it began", { ...tcp, state: "syn-rcvd" }, NO_LIMITS, 61_000, "unanswered"],
  [
    "one that is over when late packets are",
    { ...tcp, state: "time-wait", isOver: true },
    NO_LIMITS,
    65_000,
    "idle-limit",
  ],
  ["one that was reset sooner", { ...tcp, state: "closed", isOver: true }, NO_LIMITS, 15_000, "idle-limit"],
  ["datagrams by their own limit", { ...tcp, isUdp: true }, NO_LIMITS, 65_000, "idle-limit"],
  ["a silent one by the allocation's limit", tcp, { ...NO_LIMITS, idleMs: 10 }, 5010, "idle-limit"],
  ["an old one by the allocation's limit", tcp, { ...NO_LIMITS, idleMs: 9000, totalMs: 2000 }, 3000, "time-limit"],
  [
    "one that is over by no limit",
    { ...tcp, state: "time-wait", isOver: true },
    { ...NO_LIMITS, idleMs: 1, totalMs: 1 },
    65_000,
    "idle-limit",
  ],
] as const)("ends %s", (_, splice, limits, due, reason) => {
  expect(endOf(splice, limits)).toEqual({ due, reason });
});

it("repeats SYN-ACKs after twice as long each time", () => {
  expect([0, 1, 2, 3].map((sent) => nextSynAck(1000, sent))).toEqual([1300, 1900, 3100, 5500]);
});

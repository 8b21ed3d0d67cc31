import { randomBytes } from "node:crypto";
import { CONTROL_FRAME_MAX_BYTES } from "@isthmus/protocol";
import { expect, it, vi } from "vitest";
import { startJoinedPair, startPair } from "./world.ts";

it("pass unread to the other side, both ways and at any size", async () => {
  const { daemons, offers, metrics } = await startJoinedPair();
  const [a, b] = daemons;
  const frames = [randomBytes(1), randomBytes(300), randomBytes(CONTROL_FRAME_MAX_BYTES)];
  for (const frame of frames) {
    a.send(offers[0], frame);
    b.send(offers[1], frame);
  }
  for (const frame of frames) {
    expect(await b.frames.next()).toEqual({ allocation: offers[0].allocation, frame });
    expect(await a.frames.next()).toEqual({ allocation: offers[0].allocation, frame });
  }
  expect(await metrics.value("control_frames_total", { outcome: "relayed" })).toBe(6);
});

it("are dropped and counted while the other side is away", async () => {
  const { daemons, offers, metrics } = await startPair();
  const [a, b] = daemons;
  await a.join(offers[0]);
  a.send(offers[0], Buffer.from("too early"));
  await vi.waitUntil(() => metrics.value("control_frames_total", { outcome: "peer-away" }));
  await b.join(offers[1]);
  a.send(offers[0], Buffer.from("in time"));
  expect((await b.frames.next()).frame.toString()).toBe("in time");
});

it("are limited in their rate", async () => {
  const { daemons, offers, metrics } = await startJoinedPair({ sessions: { control_frames_per_second: 5 } });
  const [a, b] = daemons;
  for (let n = 0; n < 50; n++) a.send(offers[0], Buffer.from([n]));
  // The other side has a rate of its own.
  b.send(offers[1], Buffer.from("unhindered"));
  expect((await a.frames.next()).frame.toString()).toBe("unhindered");
  await vi.waitUntil(async () => (await metrics.value("control_frames_total", { outcome: "rate-limited" })) >= 35);
  expect(await metrics.value("control_frames_total", { outcome: "relayed" })).toBeLessThanOrEqual(16);
});

it.each([
  ["no frame behind the allocation", Buffer.alloc(0)],
  ["more than a frame may have", Buffer.alloc(CONTROL_FRAME_MAX_BYTES + 1)],
])("close the session of a sender with %s", async (_, frame) => {
  const { daemons, offers } = await startJoinedPair();
  daemons[0].send(offers[0], frame);
  expect(await daemons[0].downs.next()).toBe("bad-message");
});

it("close the session of a sender that has not joined", async () => {
  const { daemons, offers } = await startPair();
  daemons[0].send(offers[0], Buffer.from("x"));
  expect(await daemons[0].downs.next()).toBe("not-joined");
});

it("are no offence right after the allocation ended, or was left", async () => {
  const { daemons, offers, isb, metrics } = await startJoinedPair();
  const [a, b] = daemons;
  const { allocation } = offers[0];
  await b.client.request("leave", { allocation });
  b.send(offers[1], Buffer.from("late"));
  await vi.waitUntil(async () => (await metrics.value("control_frames_total", { outcome: "left" })) === 1);
  await isb.release(allocation);
  a.send(offers[0], Buffer.from("late"));
  await vi.waitUntil(async () => (await metrics.value("control_frames_total", { outcome: "left" })) === 2);
  expect(await a.released.next()).toEqual({ allocation, code: "released" });
  expect([a.client.state, b.client.state]).toEqual(["up", "up"]);
});

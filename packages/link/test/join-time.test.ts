import { expect, test } from "vitest";
import { JoinTime } from "../src/open/join-time.ts";

test("nothing is known before the first join", () => {
  expect(new JoinTime().mostMs).toBe(0);
});

test("the first join counts threefold, further equal ones make it sure", () => {
  const time = new JoinTime();
  time.took(200);
  expect(time.mostMs).toBe(600);
  for (let n = 0; n < 50; n++) time.took(200);
  expect(time.mostMs).toBeCloseTo(200, 0);
});

test("it follows a host that becomes busy, and forgets it when that is over", () => {
  const time = new JoinTime();
  for (let n = 0; n < 50; n++) time.took(10);
  for (let n = 0; n < 5; n++) time.took(800);
  expect(time.mostMs).toBeGreaterThan(1000);
  for (let n = 0; n < 50; n++) time.took(10);
  expect(time.mostMs).toBeLessThan(50);
});

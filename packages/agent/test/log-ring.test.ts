import { expect, test } from "vitest";
import { LogRing } from "../src/log-ring.ts";

test("a log ring keeps the newest lines, and no more than it should", () => {
  const ring = new LogRing();
  for (let line = 1; line <= 5000; line++) ring.write(`${line}\n`);
  expect(ring.newest(3)).toEqual(["4998\n", "4999\n", "5000\n"]);
  expect(ring.newest(0)).toEqual([]);
  const all = ring.newest(1_000_000);
  expect([all.length, all[0]]).toEqual([2000, "3001\n"]);
});

test("a log ring tells its followers, as long as they follow", () => {
  const ring = new LogRing();
  const [one, two]: [string[], string[]] = [[], []];
  const stop = ring.follow((line) => one.push(line));
  ring.follow((line) => two.push(line));
  ring.write("a");
  stop();
  stop();
  ring.write("b");
  expect([one, two]).toEqual([["a"], ["a", "b"]]);
});

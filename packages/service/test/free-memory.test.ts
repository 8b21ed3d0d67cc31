import { expect, test } from "vitest";
import { freeMemory } from "../src/index.ts";

test("a large buffer of its own is freed", () => {
  const bytes = Buffer.allocUnsafeSlow(64 * 1024);
  freeMemory(bytes);
  expect(bytes.length).toBe(0);
});

test("a part of something larger stays, and the whole with it", () => {
  const whole = Buffer.allocUnsafeSlow(64 * 1024);
  const part = whole.subarray(0, 32 * 1024);
  freeMemory(part);
  expect(part.length).toBe(32 * 1024);
  expect(whole.length).toBe(64 * 1024);
});

test("bytes that share Node's pool stay", () => {
  for (const size of [1, 100, Buffer.poolSize / 2 - 1, Buffer.poolSize]) {
    const pooled = Buffer.from(new Uint8Array(size));
    const neighbour = Buffer.from("neighbour");
    freeMemory(pooled);
    expect(neighbour.toString()).toBe("neighbour");
  }
});

test("shared memory stays: it cannot be freed", () => {
  const shared = new Uint8Array(new SharedArrayBuffer(64 * 1024));
  freeMemory(shared);
  expect(shared.length).toBe(64 * 1024);
});

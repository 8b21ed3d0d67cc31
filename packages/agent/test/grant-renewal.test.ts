import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { GrantRenewal } from "../src/grant-renewal.ts";
import { grantPayload } from "./support/grant.ts";

const HOUR_MS = 3_600_000;

let due: number;
let renewal: GrantRenewal;
let startedAt: number;

beforeEach(() => {
  vi.useFakeTimers({ now: new Date("2026-01-01T00:00:00Z") });
  due = 0;
  renewal = new GrantRenewal(() => due++);
  startedAt = Date.now();
});
afterEach(() => {
  renewal.stop();
  vi.useRealTimers();
});

const grantOf = (lifetimeS: number) => grantPayload({ exp: Math.floor(Date.now() / 1000) + lifetimeS });

/** Milliseconds from the start until it is due. */
function dueAfter(mostMs: number): number {
  while (due === 0 && Date.now() - startedAt < mostMs) vi.advanceTimersByTime(1000);
  return Date.now() - startedAt;
}

describe("a grant's renewal", () => {
  test("is due at half of a day, once", () => {
    renewal.schedule(grantOf(86_400));
    vi.advanceTimersByTime(12 * HOUR_MS - 1);
    expect(due).toBe(0);
    vi.advanceTimersByTime(1);
    expect(due).toBe(1);
    vi.advanceTimersByTime(48 * HOUR_MS);
    expect(due).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("is due neither at once nor in a loop where a timer could not count that far (2^31 ms)", () => {
    renewal.schedule(grantOf(100 * 86_400));
    vi.advanceTimersByTime(50 * 24 * HOUR_MS - 1);
    expect(due).toBe(0);
    vi.advanceTimersByTime(1);
    expect(due).toBe(1);
  });

  test("is due soon after the host has slept over it", () => {
    renewal.schedule(grantOf(86_400));
    vi.advanceTimersByTime(HOUR_MS);
    vi.setSystemTime(startedAt + 20 * HOUR_MS);
    vi.advanceTimersByTime(600_000);
    expect(due).toBe(1);
  });

  test("waits on when the clock was set back", () => {
    renewal.schedule(grantOf(86_400));
    vi.advanceTimersByTime(11 * HOUR_MS);
    vi.setSystemTime(startedAt);
    vi.advanceTimersByTime(12 * HOUR_MS - 1);
    expect(due).toBe(0);
    vi.advanceTimersByTime(600_000);
    expect(due).toBe(1);
  });

  test("is no loop where this host's clock is ahead and half of the life is over from the start", () => {
    const grant = grantOf(86_400);
    vi.setSystemTime(startedAt + 20 * HOUR_MS);
    startedAt = Date.now();
    renewal.schedule(grant);
    expect(dueAfter(2 * HOUR_MS)).toBe(HOUR_MS);
  });

  test("is no loop for a grant that is all but over", () => {
    renewal.schedule(grantOf(1));
    expect(dueAfter(10_000)).toBe(1000);
    due = 0;
    startedAt = Date.now();
    renewal.schedule(grantPayload({ iat: 0, exp: 1 }));
    expect(dueAfter(10_000)).toBe(1000);
  });

  test("that failed is tried again after a minute, or sooner where time is short", () => {
    const grant = grantOf(86_400);
    renewal.retry(grant);
    expect(dueAfter(HOUR_MS)).toBe(60_000);
    due = 0;
    startedAt = Date.now();
    renewal.retry(grantOf(40));
    expect(dueAfter(HOUR_MS)).toBe(10_000);
  });

  test("has an end, and a newer one takes its place", () => {
    renewal.schedule(grantOf(60));
    renewal.schedule(grantOf(600));
    vi.advanceTimersByTime(299_000);
    expect(due).toBe(0);
    renewal.stop();
    vi.advanceTimersByTime(HOUR_MS);
    expect(due).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
  });
});

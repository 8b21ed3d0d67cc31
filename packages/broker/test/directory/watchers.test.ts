import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Directory } from "../../src/directory/directory.ts";
import { includes, type Listing } from "../../src/directory/listing.ts";
import { type WatcherSession, Watchers } from "../../src/directory/watchers.ts";
import { anyListing, USERS } from "./any-listing.ts";

type Event = Parameters<WatcherSession["push"]>[1];

/** A watching session that makes a picture of what it is told, and may read slowly. */
class Viewer implements WatcherSession {
  readonly events: Event[] = [];
  readonly picture = new Map<string, { description: string; present: boolean }>();
  isSlow = false;

  push(_type: "directory", body: Event): boolean {
    if (this.isSlow) return false;
    const event = structuredClone(body);
    this.events.push(event);
    if (event.snapshot) this.picture.clear();
    for (const { user, service, description, present } of event.entries) {
      this.picture.set(`${user}/${service}`, { description, present });
    }
    for (const { user, service } of event.gone) this.picture.delete(`${user}/${service}`);
    return true;
  }
}

function setUp() {
  const directory: Directory = new Directory((id, _after, before) => watchers.changed(id, before));
  const watchers = new Watchers(directory, () => undefined);
  return { directory, watchers };
}

const TURN_MS = 250;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function listing(name: string, changes: Partial<Listing> = {}): Listing {
  const allow = changes.allow ?? { anyone: true, users: [] };
  const spec = { name, channels: [], behaviour: "plain", plain: false, description: "", allow };
  return { id: `alice/${name}`, owner: "alice", allow, device: "A", deviceName: "d", spec, present: true, ...changes };
}

describe("a snapshot", () => {
  test("says with its last event that it is over, with what changed meanwhile before", () => {
    const { directory, watchers } = setUp();
    for (let n = 0; n < 1000; n++) directory.put(listing(`s${String(n).padStart(3, "0")}`));
    vi.advanceTimersByTime(TURN_MS);
    const bob = new Viewer();
    watchers.add(bob, "bob");
    expect(bob.picture.size).toBeLessThan(1000);
    directory.put(listing("s000", { present: false }));
    vi.advanceTimersByTime(20 * TURN_MS);
    expect(bob.events.map(({ more }) => more ?? false)).toEqual([...bob.events.slice(1).map(() => true), false]);
    expect(bob.events.filter(({ snapshot }) => snapshot)).toEqual([bob.events[0]]);
    expect([bob.picture.size, bob.picture.get("alice/s000")?.present]).toEqual([1000, false]);
    directory.put(listing("s001", { present: false }));
    vi.advanceTimersByTime(TURN_MS);
    expect(bob.events.at(-1)).toEqual(expect.not.objectContaining({ more: expect.anything() }));
  });
});

describe("a watcher", () => {
  test("is told of many changes at once, a quarter of a second after the first", () => {
    const { directory, watchers } = setUp();
    const bob = new Viewer();
    watchers.add(bob, "bob");
    directory.put(listing("a"));
    vi.advanceTimersByTime(TURN_MS - 1);
    directory.put(listing("b"));
    directory.put(listing("short-lived"));
    directory.remove("alice/short-lived");
    expect(bob.events).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(bob.events).toHaveLength(2);
    expect(bob.events[1]!.entries.map((entry) => entry.service)).toEqual(["a", "b"]);
    vi.advanceTimersByTime(10 * TURN_MS);
    expect(bob.events).toHaveLength(2);
  });

  test("that reads slowly gets one snapshot when it has drained, whatever happened meanwhile", () => {
    const { directory, watchers } = setUp();
    const bob = new Viewer();
    watchers.add(bob, "bob");
    bob.isSlow = true;
    for (let turn = 0; turn < 20; turn++) {
      directory.put(listing("a", { present: turn % 2 === 0 }));
      directory.put(listing(`s${turn}`));
      vi.advanceTimersByTime(TURN_MS);
    }
    expect(bob.events).toHaveLength(1);
    bob.isSlow = false;
    watchers.drained(bob);
    vi.advanceTimersByTime(10 * TURN_MS);
    expect(bob.events).toHaveLength(2);
    expect(bob.events[1]!.snapshot).toBe(true);
    expect(bob.picture.size).toBe(21);
  });

  test("who left is not told, and holds nothing up", () => {
    const { directory, watchers } = setUp();
    const bob = new Viewer();
    watchers.add(bob, "bob");
    bob.isSlow = true;
    directory.put(listing("a"));
    vi.advanceTimersByTime(TURN_MS);
    watchers.remove(bob);
    bob.isSlow = false;
    watchers.drained(bob);
    directory.put(listing("b"));
    vi.advanceTimersByTime(TURN_MS);
    expect(bob.events).toHaveLength(1);
    expect(watchers.size).toBe(0);
  });
});

test("without watchers a change leaves nothing to be told", () => {
  const { directory } = setUp();
  directory.put(listing("a"));
  expect(vi.getTimerCount()).toBe(0);
});

const VIEWERS = ["alice", "bob", "bob"];

const anyAction = fc.oneof(
  { weight: 6, arbitrary: anyListing.map((put) => ({ put })) },
  { weight: 2, arbitrary: anyListing.map(({ id }) => ({ remove: id })) },
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 400 }).map((ms) => ({ ms })) },
  { weight: 2, arbitrary: fc.tuple(fc.nat(2), fc.boolean()).map(([viewer, isSlow]) => ({ viewer, isSlow })) },
  { weight: 1, arbitrary: fc.nat(2).map((again) => ({ again })) },
);

test("whatever changes, and however slowly they read, watchers end with the picture of the directory", () => {
  const bulk = Array.from({ length: 250 }, (_, number) =>
    listing(`bulk-${number}`, { owner: "zed", id: `zed/b-${number}` }),
  );
  fc.assert(
    fc.property(fc.boolean(), fc.array(anyAction, { maxLength: 60 }), (isLarge, actions) => {
      const { directory, watchers } = setUp();
      if (isLarge) for (const entry of bulk) directory.put(entry);
      const viewers = VIEWERS.map((user) => ({ user, viewer: new Viewer() }));
      for (const { user, viewer } of viewers) watchers.add(viewer, user);
      for (const action of actions) {
        if ("put" in action) directory.put(action.put);
        else if ("remove" in action) directory.remove(action.remove);
        else if ("ms" in action) vi.advanceTimersByTime(action.ms);
        else if ("again" in action) watchers.add(viewers[action.again]!.viewer, viewers[action.again]!.user);
        else {
          const { viewer } = viewers[action.viewer]!;
          viewer.isSlow = action.isSlow;
          if (!action.isSlow) watchers.drained(viewer);
        }
      }
      for (const { viewer } of viewers) {
        viewer.isSlow = false;
        watchers.drained(viewer);
      }
      vi.advanceTimersByTime(20 * TURN_MS);
      for (const { user, viewer } of viewers) {
        const expected = [...directory.ids()]
          .map((id) => directory.get(id)!)
          .filter((entry) => includes(entry, user))
          .map(({ owner, spec, present }) => [`${owner}/${spec.name}`, { description: spec.description, present }]);
        expect(Object.fromEntries(viewer.picture)).toEqual(Object.fromEntries(expected));
        for (const { entries, gone } of viewer.events) expect(entries.length + gone.length).toBeLessThanOrEqual(100);
      }
      watchers.stop();
    }),
    { numRuns: 300 },
  );
  expect(USERS).toContain("bob");
});

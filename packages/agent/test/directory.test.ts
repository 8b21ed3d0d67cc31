import type { DirectoryEntry } from "@isthmus/protocol";
import { expect, test } from "vitest";
import { Directory } from "../src/directory.ts";

const entry = (service: string, changes: Partial<DirectoryEntry> = {}): DirectoryEntry => ({
  service,
  user: "bob",
  device: "laptop",
  fingerprint: "f",
  channels: [],
  behaviour: "plain",
  description: "",
  present: true,
  ...changes,
});

/** A directory without a session, and what its watcher hears. */
function watched() {
  const directory = new Directory(() => undefined);
  const heard: string[] = [];
  const stop = directory.watch(({ event, entry: { service } }) => heard.push(`${event} ${service}`));
  return { directory, heard, stop };
}

const event = (entries: DirectoryEntry[], changes: object = {}) => ({ snapshot: false, entries, gone: [], ...changes });

test("a watcher hears what is new, what has changed and what is gone, each once", () => {
  const { directory, heard } = watched();
  directory.update(event([entry("a"), entry("b", { present: false })], { snapshot: true }));
  directory.update(event([entry("a"), entry("b")]));
  directory.update(event([entry("b", { description: "new" })], { gone: [{ service: "a", user: "bob" }] }));
  directory.update(event([], { gone: [{ service: "a", user: "bob" }] }));
  expect(heard).toEqual(["present a", "away b", "present b", "gone a", "present b"]);
});

test("a snapshot after a reconnect shows what differs alone", () => {
  const { directory, heard } = watched();
  directory.update(event([entry("a"), entry("b")], { snapshot: true }));
  heard.length = 0;
  directory.update(event([entry("b"), entry("c")], { snapshot: true }));
  expect(heard).toEqual(["present c", "gone a"]);
});

test("a snapshot of many events is over with its last one", () => {
  const { directory, heard } = watched();
  directory.update(event([entry("a"), entry("b"), entry("c")], { snapshot: true }));
  heard.length = 0;
  directory.update(event([entry("a")], { snapshot: true, more: true }));
  // Of what was sent before, something has changed meanwhile.
  directory.update(event([entry("a", { present: false })], { more: true }));
  directory.update(event([entry("b")], { more: true }));
  expect(heard).toEqual(["away a"]);
  directory.update(event([entry("d")]));
  expect(heard).toEqual(["away a", "present d", "gone c"]);
  directory.update(event([]));
  expect(heard).toHaveLength(3);
});

test("a snapshot that breaks off is void when the next one begins", () => {
  const { directory, heard } = watched();
  directory.update(event([entry("a"), entry("b")], { snapshot: true }));
  directory.update(event([], { snapshot: true, more: true }));
  directory.update(event([entry("a"), entry("b")], { snapshot: true }));
  expect(heard).toEqual(["present a", "present b"]);
});

test("a second watcher hears first what the first one knows", () => {
  const { directory } = watched();
  directory.update(event([entry("a"), entry("b", { present: false })], { snapshot: true }));
  const heard: string[] = [];
  directory.watch(({ event: what, entry: { service } }) => heard.push(`${what} ${service}`));
  expect(heard).toEqual(["present a", "away b"]);
});

test("nothing is kept when nobody watches, though the ISB may not have heard of it yet", () => {
  const { directory, stop } = watched();
  directory.update(event([entry("a")], { snapshot: true }));
  stop();
  directory.update(event([entry("b")]));
  const heard: unknown[] = [];
  directory.watch((one) => heard.push(one));
  expect(heard).toEqual([]);
});

test("all is gone with the ISB", () => {
  const { directory, heard } = watched();
  directory.update(event([entry("a"), entry("b")], { snapshot: true }));
  heard.length = 0;
  directory.clear();
  expect(heard).toEqual(["gone a", "gone b"]);
  directory.clear();
  expect(heard).toHaveLength(2);
});

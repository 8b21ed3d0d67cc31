import { createIdentity } from "@isthmus/service";
import { expect, test, vi } from "vitest";
import { startBroker } from "./support/broker.ts";
import { service, startDaemon } from "./support/daemon.ts";
import { type RawDaemon, rawLogin } from "./support/raw-daemon.ts";

const SESSIONS = 2000;
const AT_ONCE = 50;

test("two thousand sessions come, declare, break and leave nothing behind", async () => {
  const server = await startBroker({ settings: { grace_seconds: 0, devices_per_user: 1000 } });
  const users = ["alice", "bob", "carol", "dave"];
  const invites = await Promise.all(users.map((user) => server.invite(user, SESSIONS / users.length)));
  const watcher = await startDaemon(server, { invite: await server.invite("watcher") });
  await watcher.client.request("watch", {});
  const raws: RawDaemon[] = [];
  const join = async (number: number): Promise<void> => {
    const raw = await rawLogin(server, createIdentity(), invites[number % invites.length]);
    raw.send({ t: "declare", id: "d", services: [service(`s${number}`)], subscriptions: [] });
    await raw.frames.next(({ t, re }) => t === "ok" && re === "d");
    raws.push(raw);
  };
  for (let number = 0; number < SESSIONS; number += AT_ONCE) {
    await Promise.all(Array.from({ length: AT_ONCE }, (_, offset) => join(number + offset)));
  }
  expect(server.broker.operations.sessionCount).toBe(SESSIONS + 1);
  expect(await server.metrics.value("directory_present")).toBe(SESSIONS);

  for (const { socket } of raws) socket.terminate();
  const isZero = async (): Promise<boolean> => (await server.metrics.value("directory_present")) === 0;
  await vi.waitUntil(isZero, { timeout: 30_000, interval: 20 });
  expect(server.broker.operations.sessionCount).toBe(1);
  const seen = new Map<string, boolean>();
  while (seen.size < SESSIONS || [...seen.values()].includes(true)) {
    for (const entry of (await watcher.directory.next()).entries) seen.set(entry.service, entry.present);
  }
}, 120_000);

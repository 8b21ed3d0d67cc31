import { setTimeout as sleep } from "node:timers/promises";
import { type Daemon, portOf, startRedis, type TwoHomes, twoHomes } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { describe, expect, it } from "vitest";
import { EchoServer } from "./fixtures/echo.ts";
import { Traffic } from "./fixtures/traffic.ts";

/** By then attempts to log in have become as rare as they get while an outage is young. */
const OUTAGE_MS = 8000;
const SESSIONS_BACK_MS = 5000;
const WORKS_AGAIN_MS = 10_000;

describe.concurrent("an ISB that is killed", () => {
  it("is not missed by subscriptions, and knows everybody within 5 s of its return", async () => {
    await using lab = await Lab.create();
    const homes = await twoHomes(lab);
    const { alice, bob, deployment } = homes;
    const port = await useEcho(homes);
    const traffic = await Traffic.start(alice.node, port);
    const directory = await directoryOf(alice);

    const killed = Date.now();
    await deployment.isb.kill();
    await sleep(OUTAGE_MS);
    expect((await alice.status()).isb?.state).toBe("connecting");
    await deployment.isb.start();
    const returned = Date.now();
    const sessions = await Promise.all([sessionBack(alice, killed), sessionBack(bob, killed)]);

    expect(Math.max(...sessions) - returned).toBeLessThan(SESSIONS_BACK_MS);
    expect(await directoryOf(alice)).toEqual(directory);
    expect(traffic.failuresSince(killed)).toEqual([]);
    await bob.provide("another", "--tcp", "127.0.0.1:7000", "--allow", "alice");
    const another = await Traffic.start(alice.node, portOf(await alice.subscribe("another@bob")), ["tcp"]);
    await another.stop();
    await traffic.stop();
    expect(traffic.failuresSince(killed)).toEqual([]);
  });

  it("takes up subscriptions again, though the provider's daemon became another process meanwhile", async () => {
    await using lab = await Lab.create();
    const homes = await twoHomes(lab);
    const { alice, bob, deployment } = homes;
    const port = await useEcho(homes);
    const traffic = await Traffic.start(alice.node, port, ["tcp", "udp"]);

    await deployment.isb.kill();
    await bob.kill();
    await bob.start();
    await sleep(OUTAGE_MS);
    await deployment.isb.start();

    const returned = Date.now();
    for (const kind of ["tcp", "udp"] as const) {
      expect(await traffic.workedAgain(kind, returned, WORKS_AGAIN_MS)).toBeLessThan(WORKS_AGAIN_MS);
    }
    await traffic.stop();
  });
});

describe.concurrent("with an ISB on Redis", () => {
  it("a Redis that is killed is not missed by sessions and subscriptions, and what it knew is there again", async () => {
    await using lab = await Lab.create();
    const isb = await lab.host("isb");
    const redis = await startRedis(isb, 6379, { durable: true });
    const homes = await twoHomes(lab, { isbFlags: ["--store", "redis://127.0.0.1:6379"], isb });
    const { alice, bob, deployment } = homes;
    const port = await useEcho(homes);
    const traffic = await Traffic.start(alice.node, port);
    const directory = await directoryOf(alice);

    const killed = Date.now();
    redis.kill("SIGKILL");
    await redis.exited;
    const { code, stdout } = await bob.run(["--json", "provide", "another", "--tcp", "127.0.0.1:7000"]);
    expect({ code, answer: JSON.parse(stdout) }).toMatchObject({
      code: 1,
      answer: { error: { code: "store-unavailable" } },
    });
    await sleep(OUTAGE_MS);
    await startRedis(isb, 6379, { durable: true });
    await deployment.isb.ready(SESSIONS_BACK_MS);

    expect(await directoryOf(alice)).toEqual(directory);
    await bob.provide("another", "--tcp", "127.0.0.1:7000", "--allow", "alice");
    const another = await Traffic.start(alice.node, portOf(await alice.subscribe("another@bob")), ["tcp"]);
    await another.stop();
    await traffic.stop();
    expect(traffic.failuresSince(killed)).toEqual([]);
    for (const daemon of [alice, bob]) expect(await daemon.metric("isthmus_daemon_logins_total")).toBe(1);
  });

  it("both may be killed: sessions are back within 5 s, and the directory is the same", async () => {
    await using lab = await Lab.create();
    const isb = await lab.host("isb");
    const redis = await startRedis(isb, 6379, { durable: true });
    const homes = await twoHomes(lab, { isbFlags: ["--store", "redis://127.0.0.1:6379"], isb });
    const { alice, bob, deployment } = homes;
    const port = await useEcho(homes);
    const traffic = await Traffic.start(alice.node, port);
    const directory = await directoryOf(alice);

    const killed = Date.now();
    redis.kill("SIGKILL");
    await deployment.isb.kill();
    await startRedis(isb, 6379, { durable: true });
    await deployment.isb.start();
    const returned = Date.now();
    const sessions = await Promise.all([sessionBack(alice, killed), sessionBack(bob, killed)]);

    expect(Math.max(...sessions) - returned).toBeLessThan(SESSIONS_BACK_MS);
    expect(await directoryOf(alice)).toEqual(directory);
    await traffic.stop();
    expect(traffic.failuresSince(killed)).toEqual([]);
  });
});

async function useEcho({ alice, bob }: TwoHomes): Promise<number> {
  const { port } = await EchoServer.start(bob.node, 7000);
  const target = `127.0.0.1:${port}`;
  await bob.provide("echo", "--tcp", target, "--udp", target, "--allow", "alice", "--description", "says it again");
  return portOf(await alice.subscribe("echo@bob"));
}

function directoryOf(daemon: Daemon): Promise<unknown> {
  return daemon.json(["list", "--away"]);
}

/** When the session to the ISB came up after it was lost: milliseconds since 1970. */
async function sessionBack(daemon: Daemon, lost: number): Promise<number> {
  const isBack = (isb: { state: string; since: string } | undefined) =>
    isb?.state === "up" && Date.parse(isb.since) > lost;
  const { isb } = await daemon.statusWhen("the session is back", (status) => isBack(status.isb), 2 * SESSIONS_BACK_MS);
  return Date.parse(isb!.since);
}

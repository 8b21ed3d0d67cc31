import { setTimeout as sleep } from "node:timers/promises";
import { portOf, type TwoHomes, twoHomes } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { describe, expect, it } from "vitest";
import { EchoServer } from "./fixtures/echo.ts";
import { Traffic } from "./fixtures/traffic.ts";

const WORKS_AGAIN_MS = 2000;
/** Attempts to log in are as rare by then as they become while an outage is young. */
const OUTAGE_MS = 5000;

describe("an IST that is killed", () => {
  it("is used again within 2 s of its return", async () => {
    await using lab = await Lab.create();
    const homes = await twoHomes(lab);
    const traffic = await Traffic.start(homes.alice.node, await useEcho(homes), ["tcp", "udp"]);
    const { ist } = homes.deployment;

    await ist.kill();
    await sleep(OUTAGE_MS);
    await ist.start();

    const returned = Date.now();
    for (const kind of ["tcp", "udp"] as const) {
      expect(await traffic.workedAgain(kind, returned, WORKS_AGAIN_MS)).toBeLessThan(WORKS_AGAIN_MS);
    }
    await traffic.stop();
  });

  it("is replaced by another that is there, within 2 s", async () => {
    await using lab = await Lab.create();
    const ists = await Promise.all([lab.host("ist-1"), lab.host("ist-2")]);
    const homes = await twoHomes(lab, { ists });
    const { alice, deployment } = homes;
    const traffic = await Traffic.start(alice.node, await useEcho(homes), ["tcp", "udp"]);
    const inUse = async () => (await alice.status()).links[0]!.ist;
    const first = await inUse();

    const killed = Date.now();
    await deployment.ists.find(({ node }) => node.name === first)!.kill();

    for (const kind of ["tcp", "udp"] as const) {
      expect(await traffic.workedAgain(kind, killed, WORKS_AGAIN_MS)).toBeLessThan(WORKS_AGAIN_MS);
    }
    expect([first, await inUse()].sort()).toEqual(["ist-1", "ist-2"]);
    await traffic.stop();
  });
});

async function useEcho({ alice, bob }: TwoHomes): Promise<number> {
  const { port } = await EchoServer.start(bob.node, 7000);
  const target = `127.0.0.1:${port}`;
  await bob.provide("echo", "--tcp", target, "--udp", target, "--allow", "alice");
  return portOf(await alice.subscribe("echo@bob"));
}

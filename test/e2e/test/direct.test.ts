import { type Daemon, Deployment, portOf } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EchoServer } from "./fixtures/echo.ts";
import { exercise } from "./fixtures/exercise.ts";

describe("where one of the two has a public address", () => {
  let lab: Lab;
  let deployment: Deployment;
  let atHome: Daemon;
  let inPublic: Daemon;

  beforeEach(async () => {
    lab = await Lab.create();
    const [isb, ist] = await Promise.all([
      lab.host("isb"),
      lab.host("ist"),
      lab.host("public"),
      lab.home({ name: "home", nat: "symmetric", hosts: ["private"] }),
    ]);
    deployment = await Deployment.start({ isb, ists: [ist] });
    [atHome, inPublic] = await Promise.all([
      deployment.daemon(lab.node("private"), { user: "hannah" }),
      deployment.daemon(lab.node("public"), { user: "paul" }),
    ]);
    await inPublic.statusWhen("the ISB has reached the leg port", ({ reachable }) => reachable.state === "yes", 30_000);
  });

  afterEach(async () => {
    await lab?.destroy();
  });

  /** Lets one use the other's echo service. @returns the subscriber's port */
  async function use(provider: Daemon, subscriber: Daemon): Promise<number> {
    const { port } = await EchoServer.start(provider.node, 7000);
    const target = `127.0.0.1:${port}`;
    await provider.provide("echo", "--tcp", target, "--udp", target, "--allow", subscriber.user);
    return portOf(await subscriber.subscribe(`echo@${provider.user}`));
  }

  async function usesOfIst(): Promise<Record<string, number>> {
    const { isb, ist } = deployment;
    return {
      allocations: await ist.metric("isthmus_ist_allocations"),
      sessions: await ist.metric("isthmus_ist_sessions"),
      known: await isb.metric("isthmus_isb_allocations"),
    };
  }

  const NONE = { allocations: 0, sessions: 0, known: 0 };

  it.each(["provider", "subscriber"] as const)(
    "the %s, the other one connects to it, and no IST is used",
    async (who) => {
      const [provider, subscriber] = who === "provider" ? [inPublic, atHome] : [atHome, inPublic];

      const port = await use(provider, subscriber);

      expect(await exercise(subscriber, port)).toEqual({ tcp: "direct", udp: "direct" });
      expect(await usesOfIst()).toEqual(NONE);
    },
  );
});

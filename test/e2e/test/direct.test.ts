import { type Daemon, Deployment, portOf } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { describe, expect, it } from "vitest";
import { EchoServer } from "./fixtures/echo.ts";
import { exercise } from "./fixtures/exercise.ts";
import { Traffic } from "./fixtures/traffic.ts";

const WORKS_AGAIN_MS = 10_000;

describe.concurrent("where one of the two has a public address", () => {
  it.for(["provider", "subscriber"] as const)(
    "the %s, the other one connects to it, and no IST is used",
    async (who, { onTestFailed }) => {
      await using lab = await Lab.create();
      const { deployment, atHome, inPublic } = await oneInPublic(lab);
      onTestFailed(() => {
        for (const { user, program } of [atHome, inPublic])
          console.log(`${user}'s daemon:\n${program.output.lastLines(100)}`);
      });
      const [provider, subscriber] = who === "provider" ? [inPublic, atHome] : [atHome, inPublic];

      const port = await use(provider, subscriber);

      expect(await exercise(subscriber, port)).toEqual({ tcp: "direct", udp: "direct" });
      expect(await usesOfIst(deployment)).toEqual({ allocations: 0, sessions: 0, known: 0 });
    },
  );

  it("an IST takes over when that is not so any more", async () => {
    await using lab = await Lab.create();
    const { deployment, atHome, inPublic } = await oneInPublic(lab);
    const port = await use(inPublic, atHome);
    const traffic = await Traffic.start(atHome.node, port, ["tcp", "udp"]);
    expect(await usesOfIst(deployment)).toEqual({ allocations: 0, sessions: 0, known: 0 });

    await closeLegPort(inPublic);

    const closed = Date.now();
    for (const kind of ["tcp", "udp"] as const) {
      expect(await traffic.workedAgain(kind, closed, WORKS_AGAIN_MS)).toBeLessThan(WORKS_AGAIN_MS);
    }
    await traffic.stop();
    expect(await usesOfIst(deployment)).toEqual({ allocations: 1, sessions: 2, known: 1 });
  });
});

/** A user with a public address, which the ISB has proved, and one behind a NAT. */
async function oneInPublic(lab: Lab): Promise<{ deployment: Deployment; atHome: Daemon; inPublic: Daemon }> {
  const [isb, ist, host, home] = await Promise.all([
    lab.host("isb"),
    lab.host("ist"),
    lab.host("public"),
    lab.home({ name: "home", nat: "symmetric" }),
  ]);
  const deployment = await Deployment.start({ isb, ists: [ist] });
  const [atHome, inPublic] = await Promise.all([
    deployment.daemon(home.host, { user: "hannah" }),
    deployment.daemon(host, { user: "paul" }),
  ]);
  await inPublic.statusWhen("the ISB has reached the leg port", ({ reachable }) => reachable.state === "yes", 30_000);
  return { deployment, atHome, inPublic };
}

/** Lets one use the other's echo service. @returns the subscriber's port */
async function use(provider: Daemon, subscriber: Daemon): Promise<number> {
  const { port } = await EchoServer.start(provider.node, 7000);
  const target = `127.0.0.1:${port}`;
  await provider.provide("echo", "--tcp", target, "--udp", target, "--allow", subscriber.user);
  return portOf(await subscriber.subscribe(`echo@${provider.user}`));
}

async function usesOfIst({ isb, ist }: Deployment): Promise<Record<string, number>> {
  return {
    allocations: await ist.metric("isthmus_ist_allocations"),
    sessions: await ist.metric("isthmus_ist_sessions"),
    known: await isb.metric("isthmus_isb_allocations"),
  };
}

async function closeLegPort(daemon: Daemon): Promise<void> {
  const { reachable } = await daemon.status();
  const [, port] = /:(\d+)$/.exec(reachable.address!)!;
  await daemon.node.script(`nft -f - <<'END'
table inet closed {
  chain input {
    type filter hook input priority filter
    meta l4proto { tcp, udp } th dport ${port} drop
  }
}
END`);
}

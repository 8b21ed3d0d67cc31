import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Deployment, type Ist, readSample, twoHomes } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { describe, expect, it } from "vitest";
import { Transfers } from "./fixtures/transfers.ts";

/** curl's status for a connection that breaks; one that ends too early would be 18. */
const CURL_RECEIVE_ERROR = 56;

/** What all applications must see, and never a clean end. */
const CUT = {
  download: { client: "ECONNRESET", server: expect.stringMatching(/^(ECONNRESET|EPIPE)$/) },
  upload: { client: expect.stringMatching(/^(ECONNRESET|EPIPE)$/), server: "ECONNRESET" },
  web: { status: CURL_RECEIVE_ERROR, says: expect.stringContaining("Connection reset by peer") },
};

const POLL = { timeout: 10_000, interval: 200 };

/** Down, up and from the web server; sealed and plain. */
const TRANSFERS = 6;

interface Case {
  name: string;
  /** Configuration of the ISB. */
  isb?: string;
  /** Ends the connections; a limit does so by itself. */
  cut?: (deployment: Deployment) => Promise<void>;
  /** By which the IST counts the cuts, as long as it lives. */
  reason?: string;
}

describe("connections that are cut in the middle", () => {
  it.each<Case>([
    { name: "a relay, at a limit of bytes", isb: "[allocation]\nbytes = 25000000\n", reason: "byte-limit" },
    { name: "a relay, at a limit of time", isb: "[allocation]\ntotal_seconds = 3\n", reason: "time-limit" },
    { name: "a relay that stops, when the time to drain is over", cut: ({ ist }) => ist.stop() },
    // Where a process has no native add-on the system ends its connections by FIN when it is killed.
    { name: "a relay that is killed", cut: ({ ist }) => ist.kill() },
    { name: "a subscriber's daemon that is killed", cut: (deployment) => kill(deployment, "alice") },
    { name: "a provider's daemon that is killed", cut: (deployment) => kill(deployment, "bob") },
  ])("by $name: both ends see a reset", async ({ isb = "", cut, reason }) => {
    await using lab = await Lab.create();
    const configFile = (name: string, text: string) => {
      const file = join(lab.internet.node.folder, name);
      writeFileSync(file, text);
      return file;
    };
    const homes = await twoHomes(lab, {
      isbFlags: ["--config", configFile("isb.toml", isb)],
      istFlags: ["--config", configFile("ist.toml", "drain_seconds = 1\nload_seconds = 0.2\n")],
    });
    const [startSealed, startPlain] = await Promise.all([
      Transfers.prepare(homes, "sealed"),
      Transfers.prepare(homes, "plain"),
    ]);

    const [sealed, plain] = [startSealed(), startPlain()];
    await Promise.all([sealed.underWay(), plain.underWay()]);
    await cut?.(homes.deployment);

    expect({ sealed: await sealed.outcomes(), plain: await plain.outcomes() }).toEqual({ sealed: CUT, plain: CUT });
    if (reason !== undefined) {
      // A leg that was tried again is counted too.
      await expect.poll(() => ended(homes.deployment.ist, reason), POLL).toBeGreaterThanOrEqual(TRANSFERS);
    }
  });
});

async function kill({ daemons }: Deployment, user: string): Promise<void> {
  await daemons.find((daemon) => daemon.user === user)?.kill();
}

/** Splices that the IST ended for this reason, wherever their legs met. */
async function ended(ist: Ist, reason: string): Promise<number> {
  const metrics = await ist.metrics();
  const counts = ["cell", "stream"].map((at) =>
    readSample(metrics, `isthmus_ist_closed_total{at="${at}",reason="${reason}"}`),
  );
  return counts.reduce((sum, count) => sum + count);
}

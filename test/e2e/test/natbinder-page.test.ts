import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { HomeGateway, Natbinder, NODE, until } from "@isthmus/e2e";
import { Lab, ORDINARY_UID } from "@isthmus/lab";
import { expect, it } from "vitest";
import { Binder, buildBinder } from "./fixtures/binder.ts";
import { fixture } from "./fixtures/peers.ts";
import type { ShownPage } from "./fixtures/watch-page.ts";

/** Of a port that nobody could be asked about. */
const UNKNOWN = "unknown (no-daemon)";
/** What a program may call itself: 15 characters at most. */
const RUDE_NAME = "<img src=x>";

it("natbinder's page shows in a browser what is mapped as it changes, to those who know its address", async () => {
  await using lab = await Lab.create();
  const home = await lab.home({ name: "home", nat: "port-restricted", hosts: ["alice"] });
  await HomeGateway.start(home);
  const alice = lab.node("alice");
  const rude = join(alice.folder, RUDE_NAME);
  copyFileSync(buildBinder(alice.folder), rude);
  const nowhere = join(alice.folder, "daemon.sock");
  const natbinder = await new Natbinder(alice, { env: { ISTHMUS_NATBINDER_DAEMON_SOCKET: nowhere } }).start();
  const { stdout } = await natbinder.cli(["page"]);
  const { url } = JSON.parse(stdout) as { url: string };

  const browser = alice.spawn(NODE, [fixture("watch-page"), url], { uid: ORDINARY_UID, stdin: "pipe", ends: true });
  /** What is shown when that is so. */
  const shown = (what: string, isSo: (page: ShownPage) => boolean): Promise<ShownPage> =>
    until(what, () => {
      const line = browser.output.text.split("\n").findLast((one) => one.endsWith("}"));
      const page = line === undefined ? undefined : (JSON.parse(line) as ShownPage);
      return page && isSo(page) ? page : undefined;
    });

  const { facts, state } = await shown("an empty page", ({ isEmpty, rows }) => isEmpty && rows.length === 0);
  expect(state).toBe("live");
  for (const text of [home.address, "(upnp)", "programs under natbinder run"]) expect(facts).toContain(text);

  const one = new Binder(natbinder.run(rude, [], { ends: true }));
  await one.take("udp6", 12_001);
  await one.take("tcp4", 12_000);
  const mapped = await shown("both ports", ({ rows }) => {
    return rows.filter(([, how, , reach]) => how === "mapped" && reach === UNKNOWN).length === 2;
  });
  const [{ owners: [owner] = [] } = {}] = (await natbinder.status()).ports;
  const whose = [RUDE_NAME, String(owner!.pid), String(ORDINARY_UID)];
  expect(mapped.rows).toEqual([
    ["12000/tcp", "mapped", `${home.address}:12000`, UNKNOWN, ...whose],
    ["12001/udp", "mapped", `${home.address}:12001`, UNKNOWN, ...whose],
  ]);
  expect(mapped).toMatchObject({ nested: 0, isEmpty: false });
  const { ISTHMUS_SCREENSHOTS: folder } = process.env;
  if (folder) {
    const path = join(folder, "natbinder-page.png");
    browser.stdin.write(`${path}\n`);
    await browser.waitForOutput(/saved/, 30_000);
  }

  one.program.kill("SIGKILL");
  await shown("an empty page again", ({ isEmpty }) => isEmpty);

  const { origin } = new URL(url);
  const answers = [
    url,
    `${origin}/`,
    `${origin}/x/`,
    `${origin}/${"x".repeat(32)}/`,
    `${origin}/${"x".repeat(32)}/events`,
  ];
  const status = async (address: string) =>
    (await alice.read("curl", ["-s", "-o", "/dev/null", "-w", "%{http_code}", address])).trim();
  expect(await Promise.all(answers.map(status))).toEqual(["200", "404", "404", "404", "404"]);

  await natbinder.kill();
  await shown("that natbinder is gone", ({ state: text }) => text.includes("does not answer"));
  browser.stdin.end();
  await browser.exited;
});

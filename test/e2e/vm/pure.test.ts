import { Deployment, kernelRelay, until } from "@isthmus/e2e";
import { type HomeOptions, Lab, type Node } from "@isthmus/lab";
import type { GuestNode } from "@isthmus/vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allWhole, EndlessEcho } from "../test/fixtures/endless-echo.ts";
import { newPair, type Pair } from "../test/fixtures/pairs.ts";

/** A start of Node in the machine takes a quarter of a minute when nothing else runs. */
const MACHINE_MS = 300_000;
/** What an IST takes for cells unless it is told otherwise. */
const CELL_PORTS = { from: 20_000, to: 32_767 };
const SSH_PORT = 22;

const keeps = { nat: "port-restricted" } as const satisfies Partial<HomeOptions>;
const changes = { nat: "symmetric" } as const satisfies Partial<HomeOptions>;

let lab: Lab;
let relay: GuestNode;
let deployment: Deployment;

beforeAll(async () => {
  lab = await Lab.create();
  [, relay] = await Promise.all([lab.host("isb"), kernelRelay(lab, "ist")]);
  deployment = await Deployment.start({
    isb: lab.node("isb"),
    ists: [relay],
    istFlags: ["--data-path", "kernel"],
    env: { ISTHMUS_IST_LOAD_SECONDS: "1" },
  });
}, 2 * MACHINE_MS);

afterAll(async () => {
  await lab?.destroy();
}, MACHINE_MS);

/** @param name of at most 8 characters; `pure` is what comes of Pure Splices, as `isthmus explain` has it */
async function purePair(
  name: string,
  homes: { subscriber: Partial<HomeOptions>; provider: Partial<HomeOptions> },
  pure: RegExp,
): Promise<Pair> {
  const pair = await newPair(lab, deployment, { name, ...homes, subscribeMs: MACHINE_MS });
  await joined(pair, pure);
  return pair;
}

/** A TCP connection to a cell, as its host sees it. */
interface Leg {
  source: number;
  destination: number;
}

/** A host's connections to cells of the IST. */
async function legsOf(node: Node): Promise<Leg[]> {
  const text = await node.read("ss", ["-tnH", "state", "established", "dst", relay.ipv4]);
  return text
    .split("\n")
    .map((line) => /\S+:(\d+)\s+\S+:(\d+)\s*$/.exec(line))
    .flatMap((match) => (match ? [{ source: Number(match[1]), destination: Number(match[2]) }] : []))
    .filter(({ destination, source }) => isCellPort(destination) || isCellPort(source));
}

function isCellPort(port: number): boolean {
  return port >= CELL_PORTS.from && port <= CELL_PORTS.to;
}

/** How the subscriber's open connections are spliced. */
async function splicesOf({ subscriber }: Pair): Promise<{ passive: number; pure: number }> {
  return (await subscriber.daemon.status()).subscriptions[0]!.splices;
}

/** Both sides have joined, and this is what came of Pure Splices. */
async function joined({ subscriber }: Pair, pure: RegExp): Promise<void> {
  const isSo = ({ path, outcome }: { path: string; outcome: string }) => path === "pure" && pure.test(outcome);
  const what = `both have joined, Pure Splices: ${pure}`;
  await subscriber.daemon.statusWhen(what, ({ subscriptions }) => subscriptions[0]!.tcp.tried.some(isSo), MACHINE_MS);
}

/** A connection whose bytes go both ways. */
async function connect({ subscriber, port }: Pair): Promise<EndlessEcho> {
  const echo = await EndlessEcho.start(subscriber.daemon.node, port);
  await echo.moves();
  return echo;
}

/**
 * Connections that are spliced in this way, and none in another. What a machine without time for it makes in another way
 * is ended, and made again.
 */
async function spliced(pair: Pair, mode: "passive" | "pure", count: number): Promise<EndlessEcho[]> {
  const echoes: EndlessEcho[] = [];
  await until(
    `${count} connections are ${mode}`,
    async () => {
      const echo = await connect(pair);
      if ((await splicesOf(pair))[mode] > echoes.length) echoes.push(echo);
      else expect(await echo.end()).toBe("whole");
      return echoes.length === count || undefined;
    },
    MACHINE_MS,
  );
  return echoes;
}

/** The subscriber's router maps TCP connections from (`sport`) or to ports of cells in another way than all others. */
async function mapCells({ subscriber }: Pair, which: "sport" | "dport", to = "", flags = ""): Promise<void> {
  const { router } = subscriber.home;
  const cells = `${CELL_PORTS.from}-${CELL_PORTS.to}`;
  await router.script(
    `nft insert rule ip nat postrouting oifname wan tcp ${which} ${cells} snat to ${router.ipv4}${to} ${flags}`,
  );
}

describe("Pure Splices", () => {
  it(
    "have ports that were agreed on where both NATs keep them; the next connection's are learned, and status shows both",
    async () => {
      const pair = await purePair("both", { subscriber: keeps, provider: keeps }, /pass unchanged/);
      const { subscriber, provider } = pair;

      const [agreed] = await spliced(pair, "pure", 1);
      const [[mine], [theirs]] = [await legsOf(subscriber.daemon.node), await legsOf(provider.daemon.node)];
      expect(isCellPort(mine!.source) && isCellPort(mine!.destination)).toBe(true);
      expect(theirs).toEqual({ source: mine!.destination, destination: mine!.source });

      await until(
        "another one is pure",
        async () => {
          await connect(pair);
          return (await splicesOf(pair)).pure === 2 || undefined;
        },
        MACHINE_MS,
      );
      const learned = (await legsOf(subscriber.daemon.node)).find(({ source }) => !isCellPort(source))!;
      const answer = { source: learned.destination, destination: learned.source };
      expect(await legsOf(provider.daemon.node)).toContainEqual(answer);

      const { stdout } = await subscriber.daemon.run(["status"]);
      expect(stdout).toMatch(/echo@both-prv +active .* cell \(.*2 pure\)/);
      const [link] = (await provider.daemon.status()).links;
      expect(link!.splices.pure).toBe(2);
      await until("the IST counts them", async () => {
        return (await deployment.ist.metric("isthmus_ist_pure_splices")) === 2 || undefined;
      });
      const status = await relay.read("curl", ["-sS", "http://127.0.0.1:9444/status"]);
      expect(JSON.parse(status)).toMatchObject({ pureSplices: 2 });
      await allWhole([agreed!]);
    },
    2 * MACHINE_MS,
  );

  it.each([
    ["subscriber", { subscriber: changes, provider: keeps }],
    ["provider", { subscriber: keeps, provider: changes }],
  ] as const)(
    "learn the port of the %s, whose NAT changes it, for any number of connections at once",
    async (changed, homes) => {
      const pair = await purePair(`l-${changed.slice(0, 3)}`, homes, /pass unchanged/);
      const [mapped, chooses] =
        changed === "subscriber" ? [pair.subscriber, pair.provider] : [pair.provider, pair.subscriber];

      const echoes = await spliced(pair, "pure", 3);
      const inside = await legsOf(mapped.daemon.node);
      const outside = await legsOf(chooses.daemon.node);
      // One port serves as destination of the one side and source of the other; its NAT made another of the former's own.
      const flows = await mapped.home.router.read("conntrack", ["-L", "-p", "tcp", "--dst", relay.ipv4]);
      const pure = outside.filter(({ destination }) => flows.includes(`dport=${destination} `));
      expect(pure.length).toBeGreaterThanOrEqual(3);
      for (const { source } of pure) expect(inside.map(({ destination }) => destination)).toContain(source);
      await allWhole(echoes);
    },
    2 * MACHINE_MS,
  );
});

describe("Passive Splices", () => {
  it(
    "are what there is where neither NAT keeps ports",
    async () => {
      const pair = await purePair("none", { subscriber: changes, provider: changes }, /neither/);
      const echoes = await spliced(pair, "passive", 1);
      expect((await splicesOf(pair)).pure).toBe(0);
      await allWhole(echoes);
    },
    2 * MACHINE_MS,
  );

  it(
    "take the place of pure ones where a NAT changes ports after all, within the same open",
    async () => {
      const pair = await purePair("liar", { subscriber: keeps, provider: changes }, /pass unchanged/);
      await mapCells(pair, "sport", "", "fully-random");
      const echoes = await spliced(pair, "passive", 3);
      expect((await splicesOf(pair)).pure).toBe(0);
      // What failed twice is left alone for a while, and that is said.
      await until(
        "Pure Splices are left alone",
        async () => {
          const { tried } = (await pair.subscriber.daemon.status()).subscriptions[0]!.tcp;
          if (tried.some(({ outcome }) => outcome.includes("did not meet"))) return true;
          echoes.push(await connect(pair));
          return undefined;
        },
        MACHINE_MS,
      );
      await allWhole(echoes);
    },
    2 * MACHINE_MS,
  );

  it(
    "take the place of pure ones where the IST's host listens on the port that would be learned",
    async () => {
      await relay.script(`
mkdir -p /run/sshd
ssh-keygen -q -t ed25519 -N '' -f /tmp/host-key
/usr/sbin/sshd -f /dev/null -h /tmp/host-key -p ${SSH_PORT}
`);
      const pair = await purePair("held", { subscriber: changes, provider: keeps }, /pass unchanged/);
      await mapCells(pair, "dport", `:${SSH_PORT}`);
      const echoes = [await connect(pair)];
      expect((await splicesOf(pair)).pure).toBe(0);
      const refused = await deployment.ist.metric('isthmus_ist_refused_total{at="leg",reason="conflict"}');
      expect(refused).toBeGreaterThan(0);
      await allWhole(echoes);
    },
    2 * MACHINE_MS,
  );
});

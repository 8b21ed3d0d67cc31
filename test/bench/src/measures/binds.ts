import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { HomeGateway, Natbinder } from "@isthmus/e2e";
import { type Home, Lab, type Node, ORDINARY_UID } from "@isthmus/lab";
import { figure } from "../figure.ts";
import { interleave, ROUNDS } from "../rounds.ts";
import { pairedDifferences } from "../statistics.ts";
import type { Measure } from "./measure.ts";

const SOURCE = resolve(import.meta.dirname, "../../c/binds.c");
const [ANY, ONE] = ["0.0.0.0", "127.0.0.1"];
const PORT = 20_000;
const COUNT = 1000;
/** So that what one bind leaves to be done, such as to wake a process, is done before the next. */
const PAUSE_US = 500;
/** Each is mapped, and unmapped again. */
const GATEWAY_COUNT = 200;
const GATEWAY_PAUSE_US = 5000;
/** Each is half a second. */
const HUNG_COUNT = 4;
/** What may be added, in microseconds: to a bind that is none of natbinder's, and to one that is, without the gateway. */
const [MOST_PASSED_RUN_US, MOST_PASSED_CGROUP_US, MOST_RUN_US] = [21, 2, 60];
const HUNG_MS = { atLeast: 475, atMost: 525 };

/** One way in, and what binds there. */
interface Case {
  name: string;
  address: string;
  count: number;
  pauseUs: number;
  command: string[];
  node: Node;
}

export const binds: Measure = {
  name: "binds",
  title: "bind() under natbinder",
  method: `bind() of UDP sockets by a program in C, ${COUNT} times in each round with pauses of ${PAUSE_US} us: the median of a \
round. To 127.0.0.1 it is none of natbinder's; to 0.0.0.0 it is. Without a gateway natbinder is asked, or told, and has nobody \
to ask; with one it is miniupnpd behind one hop.`,
  async run(say, _draw, pace) {
    await using lab = await Lab.create();
    const [bare, home] = await Promise.all([
      lab.home({ name: "bare", nat: "port-restricted", hosts: ["plain", "run", "cgroup"] }),
      lab.home({ name: "home", nat: "port-restricted", hosts: ["run-mapped", "cgroup-mapped"] }),
    ]);
    const gateway = await HomeGateway.start(home);
    const cases = await start(lab, bare);
    const results = await interleave(
      cases,
      async (one, round) => {
        const ns = await measure(one);
        say(`round ${round}: ${one.name} ${(ns / 1000).toFixed(2)} us`);
        return ns / 1000;
      },
      pace(ROUNDS),
    );
    const of = (name: string) => results.get(cases.find((one) => one.name === name)!)!;
    const added = (name: string, than: string) => pairedDifferences(of(name), of(than));
    const [passed, taken] = ["one address", "all addresses"];
    const hung = await hangs(gateway, cases.find(({ name }) => name === "natbinder run, with a gateway")!, say);
    return [
      ...cases.map(({ name }) => figure(name, "us", of(name))),
      figure("added to one address: natbinder run", "us", added(`natbinder run, ${passed}`, `native, ${passed}`), {
        atMost: MOST_PASSED_RUN_US,
      }),
      figure("added to one address: eBPF", "us", added(`eBPF, ${passed}`, `native, ${passed}`), {
        atMost: MOST_PASSED_CGROUP_US,
      }),
      figure(
        "added to all addresses, without a gateway: natbinder run",
        "us",
        added(`natbinder run, ${taken}`, `native, ${taken}`),
        { atMost: MOST_RUN_US },
      ),
      figure("added to all addresses, without a gateway: eBPF", "us", added(`eBPF, ${taken}`, `native, ${taken}`)),
      figure("a gateway that hangs: natbinder run", "ms", hung, { atMost: HUNG_MS.atMost }),
    ];
  },
};

/** Starts natbinders, and says what is to be measured. */
async function start(lab: Lab, bare: Home): Promise<Case[]> {
  const node = (name: string) => lab.node(name);
  const program = join(bare.router.folder, "binds");
  execFileSync("gcc", ["-O2", SOURCE, "-o", program]);
  // Its own share of sockets is not what is measured.
  const env = { ISTHMUS_NATBINDER_MOST_SOCKETS_PER_USER: "100000" };
  const run = new Natbinder(node("run"), { env });
  const runMapped = new Natbinder(node("run-mapped"), { env });
  const cgroup = new Natbinder(node("cgroup"), { env, systemWide: "cgroup" });
  const cgroupMapped = new Natbinder(node("cgroup-mapped"), { env, systemWide: "cgroup" });
  await Promise.all([
    ...[run, cgroup].map((one) => one.start({ awaitGateway: false })),
    ...[runMapped, cgroupMapped].map((one) => one.start()),
  ]);
  const often = { count: COUNT, pauseUs: PAUSE_US };
  const seldom = { count: GATEWAY_COUNT, pauseUs: GATEWAY_PAUSE_US };
  const ways = [
    { name: "native", node: node("plain"), command: [program] },
    { name: "natbinder run", node: node("run"), command: [...run.runCommand, program] },
    { name: "eBPF", node: node("cgroup"), command: [program] },
  ];
  return [
    ...ways.map((way) => ({ ...way, ...often, name: `${way.name}, one address`, address: ONE })),
    ...ways.map((way) => ({ ...way, ...often, name: `${way.name}, all addresses`, address: ANY })),
    {
      ...seldom,
      name: "natbinder run, with a gateway",
      node: node("run-mapped"),
      command: [...runMapped.runCommand, program],
      address: ANY,
    },
    { ...seldom, name: "eBPF, with a gateway", node: node("cgroup-mapped"), command: [program], address: ANY },
  ];
}

/** @returns the median in nanoseconds */
async function measure({ node, command, address, count, pauseUs }: Case): Promise<number> {
  const [file = "", ...args] = [...command, address, String(PORT), String(count), String(pauseUs)];
  const [median] = (await node.read(file, args, { uid: ORDINARY_UID, timeoutMs: 60_000 })).split(" ");
  return Number(median);
}

/** What a bind takes, in milliseconds, while the gateway does not answer. */
async function hangs({ pidFile }: HomeGateway, one: Case, say: (progress: string) => void): Promise<number[]> {
  const pid = Number(readFileSync(pidFile, "utf8"));
  process.kill(pid, "SIGSTOP");
  try {
    const rounds: number[] = [];
    for (let round = 0; round < HUNG_COUNT; round++) {
      rounds.push((await measure({ ...one, count: 1, pauseUs: 0 })) / 1e6);
      say(`a gateway that hangs: ${rounds.at(-1)!.toFixed(1)} ms`);
    }
    return rounds;
  } finally {
    process.kill(pid, "SIGCONT");
  }
}

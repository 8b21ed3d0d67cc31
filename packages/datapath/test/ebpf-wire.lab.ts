import { type ChildProcessWithoutNullStreams, execFile, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ALL_FAMILIES, type Families, SET_UP_HOSTS, wireEnds } from "../../../kernel/splice/test/relay-topology.ts";
import {
  bothWays,
  CASES,
  ERRORS,
  errorScript,
  OFFERS,
  OPEN,
  offerScripts,
  REFUSED,
  sumsScript,
  WHOLE,
} from "../../../kernel/splice/test/segment-scripts.ts";
import type { CellPorts, DataPathStats } from "../src/index.ts";
import type { Request } from "./child/ebpf-relay.ts";

const CHILD = fileURLToPath(new URL("./child/ebpf-relay.ts", import.meta.url));
const SOURCES = fileURLToPath(new URL("../../../kernel/splice/test/", import.meta.url));

let folder: string;
let child: ChildProcessWithoutNullStreams;
let lines: Interface;
let allocations = 0;

/** Asks the process that has the data path; one question at a time. */
let asked: Promise<unknown> = Promise.resolve();
function ask<T>(request: Request): Promise<T> {
  const next = asked.then(
    () =>
      new Promise<T>((resolve, reject) => {
        lines.once("line", (line) => {
          const { answer, error } = JSON.parse(line) as { answer: T; error?: string };
          if (error === undefined) resolve(answer);
          else reject(new Error(error));
        });
        child.stdin.write(`${JSON.stringify(request)}\n`);
      }),
  );
  asked = next.catch(() => undefined);
  return next;
}

interface WireOptions {
  families?: Families;
  halfMs?: number;
}

/** Runs a script at a cell of its own. @returns the state of the newest splice there */
async function wire(script: string, { families = [4, 4], halfMs = 10_000 }: WireOptions = {}) {
  const ends = wireEnds(allocations++);
  const allocation = allocations.toString(16).padStart(16, "0");
  const limits = { splices: 0, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs };
  const [cell] = await ask<CellPorts[]>({
    call: "allocate",
    spec: { allocation, cells: [{ cell: 0 }], sources: ends.sources, limits },
  });
  await new Promise<void>((resolve, reject) => {
    const run = execFile(join(folder, "wire"), ends.words(cell!.ports, families), (error, stdout) => {
      if (error) reject(new Error(stdout || error.message));
      else resolve();
    });
    run.stdin!.end(script);
  });
  const states = await ask<string[]>({ call: "states", allocation });
  await ask({ call: "release", allocation });
  return states.at(-1);
}

/** Opens the data path anew. */
async function restart(handshake = { synAckMs: 60_000, synRcvdMs: 60_000 }): Promise<void> {
  await ask({ call: "close" });
  await ask({ call: "open", handshake });
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "isthmus-wire-"));
  execFileSync("gcc", ["-O2", "-Wall", "-Werror", "-o", join(folder, "wire"), join(SOURCES, "wire.c")]);
  execFileSync("sh", ["-c", SET_UP_HOSTS]);
  const node = [process.execPath, "--conditions=source", CHILD];
  child = spawn("ip", ["netns", "exec", "i", ...node], { stdio: ["pipe", "pipe", "inherit"] }) as never;
  lines = createInterface({ input: child.stdout });
  await ask({ call: "open", handshake: { synAckMs: 60_000, synRcvdMs: 60_000 } });
});

afterAll(() => {
  child.stdin.end();
  execFileSync("sh", ["-c", "for host in a i r b; do ip netns del $host; done"]);
  rmSync(folder, { recursive: true });
});

/** What the module alone does: it looks at the checksum of a SYN, and has its own words for time-outs. */
const PLAIN = CASES.filter(({ words, script }) => words === undefined && !/ S .* bad$/m.test(script));

describe("the BPF programs, segment by segment", () => {
  it.concurrent.each(bothWays(PLAIN))("$name", async ({ script, state }) => {
    expect(await wire(script)).toBe(state);
  });

  it.concurrent.each(OFFERS)("agree on what both offer: %s", async (...offer) => {
    for (const script of offerScripts(offer)) await wire(script);
  });

  it.concurrent.each(ALL_FAMILIES)("pass a whole connection of IPv%i and IPv%i", async (...families) => {
    expect(await wire(WHOLE, { families })).toBe("time-wait");
  });

  it.concurrent.each(ALL_FAMILIES)("keep the checksums of datagrams right, IPv%i and IPv%i", async (...families) => {
    await wire(sumsScript(families, families[0] === 4 && families[1] === 4), { families });
  });

  it.concurrent.each(ERRORS.filter(([[a, b]]) => a === b))(
    "tell the sender of errors on the other side, IPv%o: %s",
    async (...error) => {
      await wire(errorScript(error), { families: error[0] });
    },
  );
});

it("forget a leg whose peer does not come in time", async () => {
  const { script } = CASES.find(({ words }) => words === "timeout half 500")!;
  expect(await wire(script, { halfMs: 500 })).toBe(undefined);
});

it.each([
  ["timeout syn-ack 300", { synAckMs: 300, synRcvdMs: 60_000 }],
  ["timeout syn-ack 60000 timeout syn-rcvd 800", { synAckMs: 60_000, synRcvdMs: 800 }],
] as const)("a handshake that is not acknowledged: %s", async (which, handshake) => {
  const { script, state } = CASES.find(({ words }) => words === which)!;
  await restart(handshake);
  expect(await wire(script)).toBe(state);
  await restart();
});

it("count what they refuse by its reason", async () => {
  const { dropped: before } = await ask<DataPathStats>({ call: "stats" });
  await wire(REFUSED);
  const { dropped } = await ask<DataPathStats>({ call: "stats" });
  const reasons = ["beyond-fin", "stray-syn", "window", "hop-limit", "malformed"] as const;
  expect(reasons.map((reason) => (dropped[reason] ?? 0) - (before[reason] ?? 0))).toEqual([1, 1, 1, 1, 0]);
});

describe("where the IST's own way to a side is narrow", () => {
  /** @param mtu of the interface to b, or of the route alone */
  const narrow = (mtu: number, isRoute: boolean): void => {
    execFileSync("sh", [
      "-ec",
      isRoute
        ? `ip netns exec i sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
           ip -n i route replace 10.3.0.0/24 via 10.2.0.3 mtu lock ${mtu}; ip -n i -6 route replace fd03::/64 via fd02::3 mtu lock ${mtu}`
        : `ip -n i link set i1 mtu ${mtu}`,
    ]);
  };
  const widen = (): void => {
    execFileSync("sh", [
      "-ec",
      `ip -n i link set i1 mtu 1500
       ip -n i route replace 10.3.0.0/24 via 10.2.0.3; ip -n i -6 route replace fd03::/64 via fd02::3
       ip netns exec i sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0`,
    ]);
  };

  const HEARD = [
    [[4, 4], "3 4 mtu 1300"],
    [[6, 6], "2 0 mtu 1300"],
    [[4, 6], "3 4 mtu 1280"],
    [[6, 4], "2 0 mtu 1320"],
  ] as const;

  it.each([
    ["an interface", false],
    ["a route", true],
  ] as const)("%s, a sender hears what fits", async (_, isRoute) => {
    // It is wide while both meet, and a second after the narrowing it is not.
    const scripts = HEARD.map(([families, heard]) =>
      wire(
        `${OPEN}
a > A seq 1001 ack 5001 len 1400
b < A seq 1001 ack 5001 len 1400
wait 4000
a > A seq 2401 ack 5001 len 1400
a < icmp ${heard} seq 2401 port 7000
a > A seq 2401 ack 5001 len 1200
b < A seq 2401 ack 5001 len 1200
b > A seq 5001 ack 3601 len 1000
a < A seq 5001 ack 3601 len 1000`,
        { families },
      ),
    );
    setTimeout(() => narrow(1300, isRoute), 2000);
    const done = await Promise.allSettled(scripts);
    widen();
    expect(done.filter(({ status }) => status === "rejected")).toEqual([]);
  });

  it("the sender of a datagram hears of it, too", async () => {
    narrow(1300, false);
    try {
      await wire(`
a > udp len 10
b > udp len 10
a < udp len 10
a > udp len 1400
a < icmp 3 4 mtu 1300 port 7000
b -
a > udp len 1200
b < udp len 1200
a > udp len 30 ttl 1
a < icmp 11 0 port 7000`);
    } finally {
      widen();
    }
  });
});

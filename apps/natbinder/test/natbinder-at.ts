import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Binding, IdealState, policySchema, StateFile } from "@isthmus/binding";
import { socketsUnavailable } from "@isthmus/native/sockets";
import { PortMapper } from "@isthmus/portmap";
import { FakeGateway, type FakeSettings } from "@isthmus/portmap/testing";
import { Metrics, silentLogger } from "@isthmus/service";
import { beforeEach, expect, onTestFinished } from "vitest";
import { AskServer } from "../src/ask-server.ts";
import { NatbinderMetrics } from "../src/natbinder-metrics.ts";
import { OpenSockets } from "../src/open-sockets.ts";
import { Sweep } from "../src/sweep.ts";

/** The program behind `natbinder run`. */
export const RUN = join(import.meta.dirname, "../build/natbinder-run");
const WATCH = join(import.meta.dirname, "../build/natbinder-watch");
const HOST = "127.0.0.2";
export const OTHER_HOST = "127.0.0.3";

/** Why programs cannot run under natbinder here, where they cannot. */
export const cannotRun: string | undefined =
  socketsUnavailable ?? (existsSync(RUN) ? undefined : "natbinder-run is not built (it needs gcc)");
/** Why binds cannot be watched by BPF here, where they cannot. */
export const cannotWatch: string | undefined =
  process.getuid?.() !== 0
    ? "BPF programs are root's"
    : existsSync(WATCH)
      ? undefined
      : "natbinder-watch is not built (it needs gcc, clang-14, bpftool and libbpf-dev)";
/** Why the tests' own programs in C cannot be built here, where they cannot. */
export const cannotCompile: string | undefined =
  spawnSync("gcc", ["--version"]).status === 0 ? undefined : "there is no gcc";

/** Leaves all tests of a suite out where there is a reason, and says it. */
export function skipAll(reason: string | undefined): void {
  beforeEach(({ skip }) => skip(reason !== undefined, reason));
}

export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "natbinder-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

let groups = 0;

/** A control group of this test's own: other programs of this machine are none of its business. */
export function newGroup(): { name: string; command: (of: readonly string[]) => string[] } {
  const mount = /^\S+ (\S+) cgroup2 /m.exec(readFileSync("/proc/self/mounts", "latin1"))![1]!;
  const name = `isthmus-test-${process.pid}-${groups++}`;
  const path = join(mount, name);
  mkdirSync(path);
  onTestFinished(async () => {
    // Until its last process is buried.
    await expect.poll(() => rmdirSync(path) === undefined, { timeout: 30_000, interval: 10 }).toBe(true);
  });
  return { name, command: (of) => ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', path, ...of] };
}

/** Natbinder's parts in this process, with a gateway on loopback, at a socket of their own. */
export async function startNatbinder(settings: Partial<FakeSettings> = {}, { mostSocketsPerUser = 256 } = {}) {
  const folder = newFolder();
  const path = join(folder, "run", "ask.sock");
  const logger = silentLogger();
  const fake = await FakeGateway.start(settings);
  onTestFinished(() => fake.stop({ goodbye: false }));
  const mapper = new PortMapper(fake.optionsFor(HOST));
  onTestFinished(() => mapper.stop());
  await mapper.start();
  const file = new StateFile(folder, logger);
  const open: OpenSockets = new OpenSockets({
    onClosed: (socket) => binding.close("", socket),
    onMissed: () => sweep.missed(),
  });
  onTestFinished(() => open.close());
  const binding = new Binding({
    gateway: mapper,
    policy: policySchema.parse({}),
    state: new IdealState(),
    file,
    logger,
    whatIsOpen: () => open.whatIsOpen(),
    ownAddresses: () => [HOST],
    mostSocketsPerUser,
  });
  onTestFinished(() => binding.stop());
  const sweep: Sweep = new Sweep({ binding, whatIsOpen: () => open.whatIsOpen(), waitMs: 500, logger });
  onTestFinished(() => sweep.stop());
  await binding.start();
  const metrics = new Metrics("natbinder");
  const asks = new AskServer({ binding, open, metrics: new NatbinderMetrics(metrics, () => undefined), logger });
  onTestFinished(() => asks.stop());
  await asks.start(path);
  return { path, fake, binding, open, metrics };
}

/** A port that nobody has, and that is likely to stay so. */
let nextPort = 20_000 + (process.pid % 1000) * 10;
export function freshPort(): number {
  return nextPort++;
}

export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
}

/** A program, with what it prints. */
export class PlainProgram {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  output = "";

  constructor([file = "", ...args]: readonly string[], env: NodeJS.ProcessEnv = {}) {
    this.child = spawn(file, args, { stdio: ["pipe", "pipe", "pipe"], env: { PATH: process.env.PATH, ...env } });
    onTestFinished(() => void this.child.kill("SIGKILL"));
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on("data", (text: Buffer) => (this.output += text.toString()));
    }
    this.ended = once(this.child, "close").then(([status, signal]) => ({ status, signal }) as Ended);
  }
}

/** One under natbinder-run. */
export class RunProgram extends PlainProgram {
  constructor(path: string, command: string[], env: NodeJS.ProcessEnv = {}) {
    super([RUN, "--socket", path, "--", ...command], env);
  }
}

/** A program that listens at a port of TCP, says what came of it, and stays. */
export function listener(port: number, host = "0.0.0.0"): string[] {
  const code = `
    const server = require("node:net").createServer();
    const started = performance.now();
    server.on("error", (error) => { console.log(error.code); process.exit(3); });
    server.listen(${port}, "${host}", () => console.log("listening after " + (performance.now() - started)));
    process.stdin.on("end", () => process.exit()).resume();
  `;
  return [process.execPath, "-e", code];
}

import { execFileSync } from "node:child_process";
import { join, resolve } from "node:path";
import { policySchema } from "@isthmus/binding";
import { Metrics, silentLogger } from "@isthmus/service";
import { describe, expect, it, onTestFinished } from "vitest";
import { CgroupSource } from "../src/cgroup-source.ts";
import { NatbinderMetrics } from "../src/natbinder-metrics.ts";
import { SystemWide } from "../src/system-wide.ts";
import {
  cannotCompile,
  cannotRun,
  cannotWatch,
  freshPort,
  listener,
  newFolder,
  newGroup,
  PlainProgram,
  RunProgram,
  skipAll,
  startNatbinder,
} from "./natbinder-at.ts";

/** The whole load takes most of a core: it is for machines that do nothing else. */
const [PER_SECOND, SECONDS] = process.env.ISTHMUS_FULL === "1" ? [500, 60] : [150, 3];
/** What the gateway takes for each answer. */
const GATEWAY_MS = 30;
const LIMIT_MS = 500;
/** What a busy machine may add, until a process has its turn. */
const FORGIVEN_MS = 250;
const SETTLED = { timeout: 5000, interval: 50 };
const START = { timeout: 30_000, interval: 10 };
const STORM_SOURCE = resolve(import.meta.dirname, "../../../kernel/natpass/test/storm.c");
/** Neither those of other tests nor those that the kernel chooses. */
const [FIRST_PORT, LAST_PORT] = [31_000, 32_700];
const TITLE = `${PER_SECOND} binds and closes a second at a gateway that takes ${GATEWAY_MS} ms: no bind waits longer than the limit, and in 5 s all is as it ought to be`;

function storm(): string[] {
  const program = join(newFolder(), "storm");
  execFileSync("gcc", ["-O1", "-w", STORM_SOURCE, "-o", program]);
  // As many may wait at a time.
  const processes = String(Math.ceil((PER_SECOND * LIMIT_MS) / 1000));
  return [program, processes, String(SECONDS), String(FIRST_PORT), String(LAST_PORT), String(PER_SECOND)];
}

/** @param run starts a program whose binds natbinder sees */
async function weather(
  { fake, binding }: Awaited<ReturnType<typeof startNatbinder>>,
  run: (command: string[]) => PlainProgram,
): Promise<number> {
  const port = freshPort();
  const lasting = run(listener(port));
  await expect.poll(() => lasting.output, START).toContain("listening");
  const program = run(storm());
  expect(await program.ended).toMatchObject({ status: 0 });
  const [, done, longestMs] = /done (\d+) taken \d+ longest ([\d.]+)/.exec(program.output)!;
  expect(Number(done)).toBeGreaterThan(PER_SECOND * SECONDS * 0.5);
  const states = () => ({
    gateway: fake.mappings.all.map(({ externalPort }) => externalPort),
    ideal: binding.entries.map((entry) => `${entry.port} ${entry.state} ${entry.owners.length}`),
  });
  await expect.poll(states, SETTLED).toEqual({ gateway: [port], ideal: [`${port} mapped 1`] });
  return Number(longestMs);
}

describe("a storm of binds", () => {
  describe("under natbinder run", () => {
    skipAll(cannotRun ?? cannotCompile);
    it(TITLE, { timeout: SECONDS * 1000 + 60_000 }, async () => {
      const natbinder = await startNatbinder({ delayMs: GATEWAY_MS }, { mostSocketsPerUser: 10_000 });
      const longestMs = await weather(natbinder, (command) => new RunProgram(natbinder.path, command));
      expect(longestMs).toBeLessThan(LIMIT_MS + FORGIVEN_MS);
    });
  });

  describe("under a watch by eBPF", () => {
    skipAll(cannotWatch ?? cannotCompile);
    it(TITLE, { timeout: SECONDS * 1000 + 60_000 }, async () => {
      const natbinder = await startNatbinder({ delayMs: GATEWAY_MS }, { mostSocketsPerUser: 10_000 });
      const { binding, open } = natbinder;
      const group = newGroup();
      const logger = silentLogger();
      const systemWide = new SystemWide({
        sources: [new CgroupSource({ group: group.name, policy: policySchema.parse({}), logger })],
        binding,
        open,
        hasGateway: () => true,
        metrics: new NatbinderMetrics(new Metrics("natbinder"), () => undefined),
        logger,
      });
      onTestFinished(() => systemWide.stop());
      await systemWide.start();
      expect(systemWide.trouble).toBeUndefined();
      const longestMs = await weather(natbinder, (command) => new PlainProgram(group.command(command)));
      // Nothing waits there but for its turn.
      expect(longestMs).toBeLessThan(LIMIT_MS);
    });
  });
});

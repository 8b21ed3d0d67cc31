import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import type { Totals } from "./totals.ts";

/**
 * Everything that `npm test` checks, after infra/setup/test.sh has set the machine up: style, dead code and types, then
 * the tests that need nothing but this host, then those in virtual machines and in laboratories, which need root.
 */
const folder = mkdtempSync(join(tmpdir(), "isthmus-test-"));
/** The failures are said again at the end: what comes before may be too long to be looked through, or to be kept. */
const totals: Totals = { passed: 0, failed: 0, skipped: 0, failures: [] };
const LONGEST_FAILURE = 1500;
const inCi = process.env.CI === "true";
const isRoot = process.getuid?.() === 0;

function run(title: string, command: string, args: string[], env: NodeJS.ProcessEnv = process.env): boolean {
  process.stdout.write(`\n== ${title}\n`);
  const started = performance.now();
  const { status, error } = spawnSync(command, args, { stdio: "inherit", env });
  const seconds = Math.round((performance.now() - started) / 1000);
  const isGood = status === 0 && error === undefined;
  process.stdout.write(
    `== ${title}: ${isGood ? "ok" : `failed (${error?.message ?? `status ${status}`})`}, ${seconds} s\n`,
  );
  return isGood;
}

function check(title: string, command: string, args: string[]): void {
  if (run(title, command, args)) {
    totals.passed++;
  } else {
    totals.failed++;
    totals.failures.push(title);
  }
}

function test(title: string, before: string[], args: string[]): void {
  const file = join(folder, `${title}.json`);
  const vitest = ["vitest", "run", ...args, "--reporter=default", "--reporter=./test/totals.ts"];
  const [command, ...rest] = [...before, ...vitest];
  const isGood = run(title, command!, rest, { ...process.env, ISTHMUS_TOTALS: file });
  let result: Totals = { passed: 0, failed: 0, skipped: 0, failures: [] };
  try {
    result = JSON.parse(readFileSync(file, "utf8")) as Totals;
  } catch {
    process.stdout.write(`== ${title}: the runner left no report\n`);
  }
  totals.passed += result.passed;
  totals.skipped += result.skipped;
  // A suite that could not be loaded, or an error outside of any test, is a failure as well.
  totals.failed += isGood ? result.failed : Math.max(1, result.failed);
  const said = isGood || result.failures.length > 0 ? result.failures : ["no test says why; it is shown above"];
  totals.failures.push(...said.map((text) => `${title}: ${text.slice(0, LONGEST_FAILURE)}`));
}

/** Tests on this host that need a program which an ordinary user cannot install. */
const NEED_REDIS = ["packages/store/test/redis*.test.ts", "packages/broker/test/store.test.ts"];
const without: string[] = [];
if (!inCi && !existsSync("/usr/bin/redis-server")) {
  process.stdout.write(`\nskipped, since redis-server is not installed: ${NEED_REDIS.join(", ")}\n`);
  without.push(...NEED_REDIS.map((pattern) => `--exclude=${pattern}`));
}

check("style", "biome", ["ci", "--max-diagnostics=none", "."]);
check("types", "tsc", ["-p", "tsconfig.tests.json"]);
check("dead code", "knip", []);
// Many of them wait more than they work: one at a time less than there are CPUs would leave a small host half idle.
test("on this host", [], ["--project", "unit", `--maxWorkers=${Math.max(2, availableParallelism())}`, ...without]);
const inWorld = ["node", "test/lab/dist/enter.js"];
if (isRoot) {
  test("in virtual machines", inWorld, ["--project", "vm"]);
  test("in laboratories", inWorld, ["--project", "lab"]);
} else {
  process.stdout.write("\n== in virtual machines: skipped, since their kernels and TAP devices need root\n");
  process.stdout.write("\n== in laboratories: skipped, since network namespaces need root\n");
}
rmSync(folder, { recursive: true, force: true });

const { passed, failed, skipped, failures } = totals;
for (const failure of failures) process.stdout.write(`\nFAILED ${failure}\n`);
if (inCi && skipped > 0) process.stdout.write(`\n${skipped} tests were skipped, which CI does not allow\n`);
process.stdout.write(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}\n`);
process.exitCode = failed > 0 || (inCi && skipped > 0) ? 1 : 0;

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";

/**
 * Everything that `npm test` checks, after infra/setup/test.sh has set the machine up: style, dead code and types, then
 * the tests that need nothing but this host, then those in virtual machines and in laboratories, which need root.
 */
interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

const folder = mkdtempSync(join(tmpdir(), "isthmus-test-"));
const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
/** Said again at the end: what comes before it may be too long to be looked through, or to be kept. */
const failures: string[] = [];
const LONGEST_FAILURE = 1500;
const inCi = process.env.CI === "true";
const isRoot = process.getuid?.() === 0;

function run(title: string, command: string, args: string[]): boolean {
  process.stdout.write(`\n== ${title}\n`);
  const started = performance.now();
  const { status, error } = spawnSync(command, args, { stdio: "inherit" });
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
    failures.push(title);
  }
}

/** The part of vitest's report that is read here. */
interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { fullName: string; status: string; failureMessages: string[] }[];
  }[];
}

function failuresOf(report: Report): string[] {
  return report.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const failed = assertionResults.filter((test) => test.status === "failed");
    const where = relative(process.cwd(), name);
    if (status === "failed" && failed.length === 0) return [`${where}: ${message}`];
    return failed.map((test) => `${where}: ${test.fullName}: ${test.failureMessages.join("; ")}`);
  });
}

function test(title: string, before: string[], args: string[]): void {
  const report = join(folder, `${title}.json`);
  const reporters = ["default", "json", "./test/skip-reasons.ts"].map((name) => `--reporter=${name}`);
  const vitest = ["vitest", "run", ...args, ...reporters, `--outputFile.json=${report}`];
  const [command, ...rest] = [...before, ...vitest];
  const isGood = run(title, command!, rest);
  let said: string[] = [];
  let failed = 0;
  try {
    const result = JSON.parse(readFileSync(report, "utf8")) as Report;
    totals.passed += result.numPassedTests;
    totals.skipped += result.numPendingTests + result.numTodoTests;
    failed = result.numFailedTests;
    said = failuresOf(result);
  } catch {
    process.stdout.write(`== ${title}: the runner left no report\n`);
  }
  // A suite that could not be loaded, or an error outside of any test, is a failure as well.
  totals.failed += isGood ? failed : Math.max(1, failed);
  if (!isGood && said.length === 0) said.push("no report, or an error outside of its tests, shown above");
  failures.push(...said.map((text) => `${title}: ${text.slice(0, LONGEST_FAILURE)}`));
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
test("on this host", [], ["--project", "unit", ...without]);
const inWorld = ["node", "test/lab/dist/enter.js"];
if (isRoot) {
  test("in virtual machines", inWorld, ["--project", "vm"]);
  test("in laboratories", inWorld, ["--project", "lab"]);
} else {
  process.stdout.write("\n== in virtual machines: skipped, since their kernels and TAP devices need root\n");
  process.stdout.write("\n== in laboratories: skipped, since network namespaces need root\n");
}
rmSync(folder, { recursive: true, force: true });

const { passed, failed, skipped } = totals;
for (const failure of failures) process.stdout.write(`\nFAILED ${failure}\n`);
if (inCi && skipped > 0) process.stdout.write(`\n${skipped} tests were skipped, which CI does not allow\n`);
process.stdout.write(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}\n`);
process.exitCode = failed > 0 || (inCi && skipped > 0) ? 1 : 0;

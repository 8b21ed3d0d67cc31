import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join, resolve } from "node:path";
import { Command, CommanderError } from "commander";
import { describeMachine } from "./machine.ts";
import { broker } from "./measures/broker.ts";
import { connections } from "./measures/connections.ts";
import { firstByte } from "./measures/first-byte.ts";
import type { Measure } from "./measures/measure.ts";
import { request } from "./measures/request.ts";
import { throughput } from "./measures/throughput.ts";
import { type MeasureResult, measureAsMarkdown, type Report, replaceTables, reportAsMarkdown } from "./report.ts";

const MEASURES: readonly Measure[] = [throughput, firstByte, request, connections, broker];

/** All measures take about a quarter of an hour. When something hangs, the end of this process ends all of it. */
const MOST_MINUTES = 30;

const ROOT = resolve(import.meta.dirname, "../../..");
const LATEST = join(ROOT, "test/bench/results/latest.json");
const PAGE = join(ROOT, "docs/explanation/performance.md");

const program: Command = new Command("npm run bench --")
  .description("Measures Isthmus in laboratories, against other programs where there are any.")
  .argument("[measure...]", `which: ${MEASURES.map(({ name }) => name).join(", ")}; all otherwise`)
  .option("--json <file>", "write all figures there")
  .option("--quiet", "no progress")
  .exitOverride()
  .addHelpText("after", "\nA run of all also writes test/bench/results/latest.json and the tables in performance.md.");

function chosen(names: readonly string[]): readonly Measure[] {
  if (names.length === 0) return MEASURES;
  return names.map(
    (name) => MEASURES.find((candidate) => candidate.name === name) ?? program.error(`there is no measure '${name}'`),
  );
}

async function carryOut(measure: Measure, quiet: boolean): Promise<MeasureResult> {
  const { name, title, method } = measure;
  const started = performance.now();
  const before = loadavg()[0]!;
  const say = (progress: string): void => {
    if (!quiet) process.stderr.write(`${name}: ${progress}\n`);
  };
  const result = { name, title, method };
  const finish = () => ({
    seconds: Math.round((performance.now() - started) / 1000),
    load: { before, after: loadavg()[0]! },
  });
  try {
    const figures = await measure.run(say);
    return { ...result, ...finish(), figures };
  } catch (error) {
    const message = messagesOf(error).join("\n");
    process.stderr.write(`${name}: ${message}\n`);
    return { ...result, ...finish(), figures: [], error: message };
  }
}

/** What failed, and what then failed in cleaning up. */
function messagesOf(error: unknown): string[] {
  if (error instanceof SuppressedError) return [error.suppressed, error.error].flatMap(messagesOf);
  return [error instanceof Error ? error.message : String(error)];
}

function commit(): string | undefined {
  const { status, stdout } = spawnSync("git", ["-C", ROOT, "rev-parse", "HEAD"], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}

async function main(): Promise<void> {
  program.parse();
  const { json, quiet = false } = program.opts<{ json?: string; quiet?: boolean }>();
  const measures = chosen(program.args);
  const head = commit();
  const report: Report = {
    version: 1,
    started: new Date().toISOString(),
    ...(head !== undefined && { commit: head }),
    machine: describeMachine(),
    measures: [],
  };
  for (const measure of measures) {
    const result = await carryOut(measure, quiet);
    report.measures.push(result);
    process.stdout.write(`${measureAsMarkdown(result)}\n\n`);
  }
  const text = `${JSON.stringify(report, undefined, 2)}\n`;
  if (json !== undefined) writeFileSync(json, text);
  if (report.measures.some(({ error }) => error !== undefined)) {
    process.exitCode = 1;
    return;
  }
  if (measures !== MEASURES) return;
  writeFileSync(LATEST, text);
  writeFileSync(PAGE, replaceTables(readFileSync(PAGE, "utf8"), reportAsMarkdown(report)));
}

const watchdog = setTimeout(() => {
  process.stderr.write(`not done after ${MOST_MINUTES} minutes: given up\n`);
  process.exit(1);
}, MOST_MINUTES * 60_000);
watchdog.unref();
// The world that this runs in ends with it, and everything that runs there.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(1));

try {
  await main();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else throw error;
}

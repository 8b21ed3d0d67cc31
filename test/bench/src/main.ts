import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { dirname, join, resolve } from "node:path";
import { Command, CommanderError } from "commander";
import { describeMachine } from "./machine.ts";
import { binds } from "./measures/binds.ts";
import { bindsModule } from "./measures/binds-module.ts";
import { broker } from "./measures/broker.ts";
import { connections } from "./measures/connections.ts";
import { firstByte } from "./measures/first-byte.ts";
import { firstConnection } from "./measures/first-connection.ts";
import { hostSetup, hostSmall, hostTcp, hostUdp } from "./measures/host.ts";
import { ktls } from "./measures/ktls.ts";
import type { Measure, Pace } from "./measures/measure.ts";
import { relayLarge, relayPackets, relaySmall } from "./measures/relay.ts";
import { relayMemory } from "./measures/relay-memory.ts";
import { request } from "./measures/request.ts";
import { thesisCounted, thesisLoss, thesisSmall } from "./measures/thesis.ts";
import { throughput } from "./measures/throughput.ts";
import { type Plot, plotAsSvg } from "./plot.ts";
import {
  goalsAsMarkdown,
  type MeasureResult,
  measureAsMarkdown,
  type Report,
  replaceTables,
  reportAsMarkdown,
} from "./report.ts";
import { SHORT_ROUNDS } from "./rounds.ts";

/** Measures whose results are kept together: a file of results and a place in performance.md for each set. */
interface MeasureSet {
  name: string;
  results: string;
  measures: readonly Measure[];
  /** What it takes, about twice. When something hangs, the end of this process ends all of it. */
  mostMinutes: number;
}

const END_TO_END: MeasureSet = {
  name: "end to end",
  results: "latest.json",
  measures: [throughput, firstByte, firstConnection, request, connections, broker],
  mostMinutes: 30,
};

/** A measure that is kept for itself. */
function alone(measure: Measure): MeasureSet {
  return { name: measure.name, results: `${measure.name}.json`, measures: [measure], mostMinutes: 60 };
}

/** The relay on the running kernel. */
const HOST = [hostTcp, hostSmall, hostUdp, hostSetup];

const SETS: readonly MeasureSet[] = [
  END_TO_END,
  ...HOST.map(alone),
  ...[
    binds,
    bindsModule,
    ktls,
    relayLarge,
    relaySmall,
    relayPackets,
    relayMemory,
    thesisCounted,
    thesisLoss,
    thesisSmall,
  ].map(alone),
];
const MEASURES = SETS.flatMap(({ measures }) => measures);
/** One name for several. */
const TOGETHER = new Map<string, readonly Measure[]>([
  ["relay", [relayLarge, relaySmall, relayPackets, relayMemory]],
  ["host", HOST],
  ["thesis", [thesisCounted, thesisLoss, thesisSmall]],
]);

const ROOT = resolve(import.meta.dirname, "../../..");
const RESULTS = join(ROOT, "test/bench/results");
const PAGE = join(ROOT, "docs/explanation/performance.md");
/** Folder of the plots, seen from the page. */
const PICTURES = "performance";

const NAMES = [...MEASURES.map(({ name }) => name), ...TOGETHER.keys()];

const program: Command = new Command("npm run bench --")
  .description("Measures Isthmus in laboratories, against other programs where there are any.")
  .argument("[measure...]", `which: ${NAMES.join(", ")}; the short book otherwise`)
  .option("--full", "everything, with all rounds")
  .option("--tables", "measure nothing: write the tables of all results that are kept into the page")
  .option("--rounds <number>", "so many rounds", Number)
  .option("--json <file>", "write all figures there")
  .option("--quiet", "no progress")
  .exitOverride()
  .addHelpText("after", "\nAll those of a set together also write to test/bench/results and performance.md.");

/** What is measured when nothing is named. */
const SHORT_BOOK = [...END_TO_END.measures, ...HOST];

interface Options {
  json?: string;
  quiet?: boolean;
  full?: boolean;
  rounds?: number;
  tables?: boolean;
}

function chosen(names: readonly string[], full: boolean): readonly Measure[] {
  if (full) return MEASURES;
  if (names.length === 0) return SHORT_BOOK;
  return names.flatMap((name) => {
    const known = TOGETHER.get(name) ?? MEASURES.filter((candidate) => candidate.name === name);
    return known.length > 0 ? known : program.error(`there is no measure '${name}'`);
  });
}

/** What is named, and the whole book, take their time. */
function paceOf(names: readonly string[], { full = false, rounds }: Options): Pace {
  if (rounds !== undefined) return () => rounds;
  return full || names.length > 0 ? (most) => most : (most, short = SHORT_ROUNDS) => Math.min(most, short);
}

async function carryOut(measure: Measure, pace: Pace, quiet: boolean): Promise<MeasureResult> {
  const { name, title, method } = measure;
  const started = performance.now();
  const before = loadavg()[0]!;
  const say = (progress: string): void => {
    if (!quiet) process.stderr.write(`${name}: ${progress}\n`);
  };
  const result = { name, title, method };
  const plots: Plot[] = [];
  const finish = () => ({
    seconds: Math.round((performance.now() - started) / 1000),
    load: { before, after: loadavg()[0]! },
  });
  try {
    const figures = await measure.run(say, (plot) => plots.push(plot), pace);
    return { ...result, ...finish(), figures, ...(plots.length > 0 && { plots }) };
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
  const options = program.opts<Options>();
  const { json, quiet = false, full = false, tables = false } = options;
  if (tables) {
    for (const { name, results } of SETS) {
      const report = kept(results);
      if (report) write(name, report);
    }
    writeGoals();
    return;
  }
  const measures = chosen(program.args, full);
  const pace = paceOf(program.args, options);
  const head = commit();
  const report: Report = {
    version: 1,
    started: new Date().toISOString(),
    ...(head !== undefined && { commit: head }),
    machine: describeMachine(),
    measures: [],
  };
  const sets = SETS.filter((set) => set.measures.some((measure) => measures.includes(measure)));
  endWithin(sets.reduce((sum, { mostMinutes }) => sum + mostMinutes, 0));
  for (const set of sets) {
    const results: MeasureResult[] = [];
    for (const measure of set.measures.filter((one) => measures.includes(one))) {
      const result = await carryOut(measure, pace, quiet);
      results.push(result);
      process.stdout.write(`${measureAsMarkdown(result)}\n\n`);
    }
    const areSound = results.every(({ error }) => error === undefined);
    if (!areSound) process.exitCode = 1;
    const isWhole = results.length === set.measures.length && options.rounds === undefined;
    if (areSound && isWhole) keep(set, { ...report, measures: results });
    report.measures.push(...results);
    if (json !== undefined) writeFileSync(json, asJson(report));
  }
}

/** Writes what a set gave to where it is kept. */
function keep({ name, results }: MeasureSet, report: Report): void {
  writeFileSync(join(RESULTS, results), asJson(report));
  write(name, report);
  writeGoals();
}

function kept(results: string): Report | undefined {
  const file = join(RESULTS, results);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Report) : undefined;
}

function writeGoals(): void {
  const reports = SETS.flatMap(({ results }) => kept(results) ?? []);
  writeFileSync(PAGE, replaceTables(readFileSync(PAGE, "utf8"), "goals", goalsAsMarkdown(reports)));
}

/** Tables and plots of a set. */
function write(name: string, report: Report): void {
  const pictures = join(dirname(PAGE), PICTURES);
  for (const plot of report.measures.flatMap(({ plots = [] }) => plots)) {
    mkdirSync(pictures, { recursive: true });
    writeFileSync(join(pictures, `${plot.name}.svg`), plotAsSvg(plot));
  }
  writeFileSync(PAGE, replaceTables(readFileSync(PAGE, "utf8"), name, reportAsMarkdown(report, PICTURES)));
}

function asJson(report: Report): string {
  return `${JSON.stringify(report, undefined, 2)}\n`;
}

function endWithin(minutes: number): void {
  const watchdog = setTimeout(() => {
    process.stderr.write(`not done after ${minutes} minutes: given up\n`);
    process.exit(1);
  }, minutes * 60_000);
  watchdog.unref();
}

// The world that this runs in ends with it, and everything that runs there.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(1));

try {
  await main();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else throw error;
}

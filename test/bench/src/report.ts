import type { Figure } from "./figure.ts";
import type { Machine } from "./machine.ts";
import type { Plot } from "./plot.ts";

/** What one measure gave, or why it gave nothing. */
export interface MeasureResult {
  name: string;
  title: string;
  method: string;
  seconds: number;
  /** Of the last minute, before and after: above the number of cores others were at work, too. */
  load: { before: number; after: number };
  figures: Figure[];
  plots?: Plot[];
  error?: string;
}

/** What `--json` writes. */
export interface Report {
  version: 1;
  started: string;
  /** Commit of the checkout; nothing where there is no repository. */
  commit?: string;
  machine: Machine;
  measures: MeasureResult[];
}

/** All tables as Markdown, and references to plots in a folder. */
export function reportAsMarkdown({ started, commit, machine, measures }: Report, pictures?: string): string {
  const gigabytes = (machine.memoryBytes / 2 ** 30).toFixed(0);
  const head = [
    `Measured on ${started.slice(0, 10)}${commit === undefined ? "" : ` at commit ${commit.slice(0, 8)}`}: ` +
      `${machine.cores} cores (${machine.cpu}), ${gigabytes} GiB, Linux ${machine.kernel}, ${machine.system}, ` +
      `Node ${machine.node}, OpenSSL ${machine.openssl}, records sealed by ` +
      `${machine.sealing === "native" ? "the native add-on" : "node:crypto"}, ${machine.haproxy}, ${machine.ssh}, ` +
      `${[machine.iperf3, ...(machine.others ?? [])].join(", ")}.`,
  ];
  return [...head, ...measures.map((measure) => measureAsMarkdown(measure, pictures))].join("\n\n");
}

/** @param pictures folder of the plots, seen from the page; nothing leaves them out */
export function measureAsMarkdown(result: MeasureResult, pictures?: string): string {
  const { title, method, load, figures, plots = [], error } = result;
  const head = `### ${title}`;
  if (error !== undefined) return `${head}\n\nNot measured: ${error}`;
  const note = `Load average ${load.before.toFixed(1)} before, ${load.after.toFixed(1)} after.`;
  const drawn = pictures === undefined ? [] : plots.map((plot) => `![${plot.title}](${pictures}/${plot.name}.svg)`);
  return [head, `${method} ${note}`, tableOf(figures.filter(({ isDetail }) => !isDetail)), ...drawn].join("\n\n");
}

/** Of all that has a goal: how much reaches it, and what does not, as Markdown. */
export function goalsAsMarkdown(reports: readonly Report[]): string {
  const aimed = reports
    .flatMap(({ measures }) => measures)
    .flatMap(({ name, figures }) => figures.filter(({ goal }) => goal).map((one) => ({ name, ...one })));
  const short = aimed.filter(({ verdict }) => verdict !== "met");
  const head = `${aimed.length - short.length} of ${aimed.length} goals are met. Those that are not:`;
  return `${head}\n\n${tableOf(short.map((one) => ({ ...one, what: `${one.name}: ${one.what}` })))}`;
}

function tableOf(figures: readonly Figure[]): string {
  const rows = figures.map(({ what, unit, median, interval, goal, verdict }) => [
    what,
    `${number(median)} ${unit}`,
    interval ? `${number(interval.low)} to ${number(interval.high)}` : "",
    goal === undefined ? "" : "atLeast" in goal ? `>= ${goal.atLeast}` : `<= ${goal.atMost}`,
    verdict ?? "",
  ]);
  const table = [["what", "median", "95 % interval", "goal", ""], ...rows];
  const widths = table[0]!.map((_, column) => Math.max(3, ...table.map((row) => row[column]!.length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const [header, ...body] = table as [string[], ...string[][]];
  return [line(header), line(widths.map((width) => "-".repeat(width))), ...body.map(line)].join("\n");
}

/** Three digits that count. */
function number(value: number): string {
  const size = Math.abs(value);
  const decimals = size >= 100 || value === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toFixed(decimals);
}

/** The page with these tables in the place of a set's earlier ones. @throws Error when the page has no such place */
export function replaceTables(page: string, set: string, tables: string): string {
  const mark = (edge: string): string => `<!-- tables of npm run bench, ${set}: ${edge} -->`;
  const begin = page.indexOf(mark("begin"));
  const end = page.indexOf(mark("end"));
  if (begin < 0 || end < begin)
    throw new Error(`the page has no place for the tables: ${mark("begin")} ... ${mark("end")}`);
  return `${page.slice(0, begin + mark("begin").length)}\n\n${tables}\n\n${page.slice(end)}`;
}

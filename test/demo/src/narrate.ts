import { styleText } from "node:util";

/** Colours on a terminal alone. */
function paint(format: Parameters<typeof styleText>[0], text: string): string {
  return process.stdout.isTTY ? styleText(format, text) : text;
}

let steps = 0;

/** A numbered step of the story. */
export function step(text: string): void {
  process.stdout.write(`\n${paint("bold", `${++steps}.`)} ${text}\n`);
}

/** What happened in the step. */
export function detail(text: string): void {
  process.stdout.write(`   ${text.replaceAll("\n", "\n   ")}\n`);
}

export function headline(text: string): void {
  process.stdout.write(`\n${paint("bold", text)}\n`);
}

export function command(text: string): string {
  return paint("cyan", text);
}

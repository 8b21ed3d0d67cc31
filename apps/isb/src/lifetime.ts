import { InvalidArgumentError } from "commander";

const UNITS_S: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Seconds of a text such as `90m`, `24h` or `7d`. */
export function parseLifetime(text: string): number {
  const match = /^(\d{1,9})([smhd])$/.exec(text);
  if (!match) throw new InvalidArgumentError("a time is a number and a unit: 90m, 24h, 7d");
  return Number(match[1]) * UNITS_S[match[2]!]!;
}

export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new InvalidArgumentError("a number of 1 to 1000");
  return Number(text);
}

import { type Logger as PinoLogger, pino } from "pino";

/** A component takes one of these and makes children for its sessions and splices. */
export type Logger = Pick<PinoLogger, "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "child">;

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Fields that must never reach a log, wherever an object carries them. */
const SECRET_FIELDS = ["invite", "token", "ticket", "password", "secret", "privateKey", "authorization", "signature"];

/**
 * One JSON line per event on standard output, or to `write` (the daemon keeps its newest lines for `isthmus logs`).
 * On a terminal the lines are plain words instead, for people.
 */
export function createLogger(options: { name: string; level: LogLevel; write?: (line: string) => void }): Logger {
  const write =
    options.write ?? (process.stdout.isTTY ? writeForPeople : (line: string) => void process.stdout.write(line));
  return pino(
    {
      name: options.name,
      level: options.level,
      base: { name: options.name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: "[redacted]" },
    },
    { write },
  );
}

/** A logger for tests and for code that was given none. */
export function silentLogger(): Logger {
  return pino({ level: "silent" });
}

function writeForPeople(line: string): void {
  process.stdout.write(formatForPeople(line));
}

/** `12:00:01 info  isb: listening  origin=wss://...`; a line that is not ours passes unchanged. */
export function formatForPeople(line: string): string {
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const { time, level, name, msg, err, ...fields } = record;
  const rest = Object.entries(fields)
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
  const message = (err as { message?: string } | undefined)?.message;
  const clock = typeof time === "string" ? time.slice(11, 19) : "";
  const text = [clock, String(level).padEnd(5), `${name}:`, msg, rest, message && `(${message})`]
    .filter(Boolean)
    .join(" ");
  return `${text}\n`;
}

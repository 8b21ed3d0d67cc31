import { type Bindings, type Logger as PinoLogger, pino } from "pino";
import { redact } from "./redact.ts";

/** A component takes one of these and makes children for its sessions and splices. */
export type Logger = Pick<PinoLogger, "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "child">;

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * One JSON line per event on standard output, or to `write` (the daemon keeps its newest lines for `isthmus logs`).
 * On a terminal the lines are plain words instead, for people. Secrets are cut out of the fields.
 */
export function createLogger(options: { name: string; level: LogLevel; write?: (line: string) => void }): Logger {
  const write =
    options.write ?? (process.stdout.isTTY ? writeForPeople : (line: string) => void process.stdout.write(line));
  const logger = pino(
    {
      name: options.name,
      level: options.level,
      base: { name: options.name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: redact },
      serializers: { err: (error: Error) => redact(pino.stdSerializers.err(error)) },
    },
    { write },
  );
  // The formatter above does not see what children carry; they inherit this.
  const { child } = logger;
  logger.child = function (this: typeof logger, bindings: Bindings, childOptions?: object) {
    return child.call(this, redact(bindings), childOptions);
  } as typeof child;
  return logger;
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
  let record: Record<string, unknown> | null;
  try {
    record = JSON.parse(line) as Record<string, unknown> | null;
  } catch {
    return line;
  }
  if (typeof record !== "object" || record === null) return line;
  const { time, level, name, msg, err, ...fields } = record;
  const rest = Object.entries(fields)
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
  const message = (err as { message?: string } | undefined)?.message;
  const clock = typeof time === "string" ? time.slice(11, 19) : "";
  const text = [clock, String(level).padEnd(5), `${name}:`, msg, rest, message && `(${message})`]
    .filter(Boolean)
    .join(" ");
  // What a peer said must not steer the terminal.
  return `${text.replace(/\p{Cc}/gu, "?")}\n`;
}

import { execFile } from "node:child_process";

const MOST_OUTPUT_BYTES = 16 * 1024 * 1024;

/** A busy host lets a machine that only emulates wait for long. */
export const PATIENCE_MS = 900_000;

/** Less than everybody else, as the load generator. */
const NICE = -15;

/** Where scripts run as root: this host, or a virtual machine. */
export interface Shell {
  /** @returns what the script wrote @throws Error when its status is not zero, or it does not end in time */
  check(script: string, timeoutMs?: number): Promise<string>;
}

/** This host, or the private world in which this process is. */
export const HOST: Shell = through([]);

/** This host, where all that scripts start stays on one CPU and goes before everything else there. */
export function pinned(cpu: number): Shell {
  return through(["taskset", "-c", String(cpu), "nice", "-n", String(NICE)]);
}

function through(command: readonly string[]): Shell {
  const [program = "", ...words] = [...command, "sh", "-c"];
  return {
    check: (script, timeoutMs = PATIENCE_MS) =>
      new Promise((resolve, reject) => {
        const options = { timeout: timeoutMs, maxBuffer: MOST_OUTPUT_BYTES };
        execFile(program, [...words, script], options, (error, stdout, stderr) => {
          if (error) reject(new Error(`${error.message}\n${stdout}${stderr}`));
          else resolve(stdout + stderr);
        });
      }),
  };
}

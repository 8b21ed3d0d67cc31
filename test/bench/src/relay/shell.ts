import { execFile } from "node:child_process";

const MOST_OUTPUT_BYTES = 16 * 1024 * 1024;

/** A busy host lets a machine that only emulates wait for long. */
export const PATIENCE_MS = 900_000;

/** Where scripts run as root: this host, or a virtual machine. */
export interface Shell {
  /** @returns what the script wrote @throws Error when its status is not zero, or it does not end in time */
  check(script: string, timeoutMs?: number): Promise<string>;
}

/** This host, or the private world in which this process is. */
export const HOST: Shell = {
  check: (script, timeoutMs = PATIENCE_MS) =>
    new Promise((resolve, reject) => {
      const options = { timeout: timeoutMs, maxBuffer: MOST_OUTPUT_BYTES };
      execFile("sh", ["-c", script], options, (error, stdout, stderr) => {
        if (error) reject(new Error(`${error.message}\n${stdout}${stderr}`));
        else resolve(stdout + stderr);
      });
    }),
};

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { onTestFinished } from "vitest";
import type { ConfigInput } from "../world.ts";

/** A relay in a process of its own; it is killed when the test has finished. */
export class RelayProcess {
  readonly #child: ChildProcess;
  /** `up PORT` or `failed WHY`. */
  readonly line: Promise<string>;

  constructor(config: ConfigInput) {
    const script = join(import.meta.dirname, "relay.ts");
    const child = spawn(process.execPath, ["--conditions=source", script, JSON.stringify(config)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#child = child;
    this.line = (async () => {
      for await (const line of createInterface({ input: child.stdout })) return line;
      return "ended";
    })();
    onTestFinished(() => this.kill());
  }

  /** @returns its port */
  async up(): Promise<number> {
    const line = await this.line;
    if (!line.startsWith("up ")) throw new Error(line);
    return Number(line.slice(3));
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }
}

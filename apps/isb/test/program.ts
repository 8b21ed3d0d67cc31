import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { onTestFinished } from "vitest";

const MAIN = join(import.meta.dirname, "..", "src", "main.ts");
const NODE = [process.execPath, ["--conditions=source", MAIN]] as const;

export interface Result {
  status: number;
  stdout: string;
  stderr: string;
}

/** A folder and two free ports for one ISB, with nothing of the surroundings in its environment. */
export async function place() {
  const folder = await mkdtemp(join(tmpdir(), "isthmus-isb-app-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const [port, adminPort] = [await freePort(), await freePort()];
  const env: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    HOME: folder,
    ISTHMUS_ISB_LISTEN: `127.0.0.1:${port}`,
    ISTHMUS_ISB_ADMIN__LISTEN: `127.0.0.1:${adminPort}`,
  };
  return { folder, port, adminPort, env };
}

/** Runs the program to its end. */
export async function run(args: string[], env: NodeJS.ProcessEnv): Promise<Result> {
  const [node, options] = NODE;
  const child = execFile(node, [...options, ...args], { env, timeout: 20_000 });
  const { promise, resolve } = Promise.withResolvers<Result>();
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (text: string) => (stdout += text));
  child.stderr?.on("data", (text: string) => (stderr += text));
  child.on("close", (status) => resolve({ status: status ?? -1, stdout, stderr }));
  return promise;
}

export interface RunningIsb {
  /** What it logged so far, one object a line. */
  log: Record<string, unknown>[];
  /** SIGTERM; @returns the exit status */
  stop(): Promise<number | null>;
}

/** Runs an ISB until the test has finished, or it is stopped. Resolves when it is ready. */
export async function serve(env: NodeJS.ProcessEnv, args: string[] = []): Promise<RunningIsb> {
  const [node, options] = NODE;
  const child = spawn(node, [...options, ...args], { env, stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => end(child, "SIGKILL").then(() => undefined));
  const log: Record<string, unknown>[] = [];
  const ready = Promise.withResolvers<void>();
  createInterface(child.stdout).on("line", (line) => {
    const record = JSON.parse(line) as Record<string, unknown>;
    log.push(record);
    if (record.msg === "ready") ready.resolve();
  });
  child.once("exit", (status) => ready.reject(new Error(`the ISB ended with ${status}: ${JSON.stringify(log)}`)));
  await ready.promise;
  return { log, stop: () => end(child, "SIGTERM") };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
  }
  return child.exitCode;
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

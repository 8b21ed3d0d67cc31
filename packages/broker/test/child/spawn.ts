import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { decodeInvite } from "@isthmus/protocol";
import { onTestFinished } from "vitest";

export interface IsbProcess {
  origin: string;
  port: number;
  /** Enough of an identity for who only wants to know it. */
  identity: { publicKey: string } & never;
  /** Tokens, in the order in which they were asked for. */
  invites: string[];
  /** Without any warning, as in a power cut. */
  kill(): Promise<void>;
}

/** Runs an ISB from its source in a process of its own. It is killed when the test has finished. */
export async function spawnIsb(folder: string, port: number, invites: string[] = []): Promise<IsbProcess> {
  const script = join(import.meta.dirname, "isb.ts");
  const child = spawn(process.execPath, ["--conditions=source", script, folder, String(port), ...invites], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => kill(child));
  const lines = createInterface(child.stdout);
  const [line] = (await Promise.race([
    once(lines, "line"),
    once(child, "exit").then(([status]) => {
      throw new Error(`the ISB ended with status ${status}`);
    }),
  ])) as [string];
  const said = JSON.parse(line) as { port: number; key: string; invites: string[] };
  return {
    origin: `ws://127.0.0.1:${said.port}`,
    port: said.port,
    identity: { publicKey: said.key } as IsbProcess["identity"],
    invites: said.invites.map((text) => decodeInvite(text).token),
    kill: () => kill(child),
  };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

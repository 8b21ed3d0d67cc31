import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** An ordinary user needs a user namespace too; root may be where there are none (in a chroot). */
const UNSHARE = process.getuid?.() === 0 ? "-n" : "-rn";

/** Why this user cannot make network namespaces of their own here, where they cannot. */
export const cannotUnshare: string | undefined =
  spawnSync("unshare", [UNSHARE, "ip", "link"]).status === 0 ? undefined : "no network namespace can be made here";

/** Runs a program of child/ in a new network namespace, with every right there, and reads what it prints as JSON. */
export async function inNamespace<T>(program: string): Promise<T> {
  const file = fileURLToPath(new URL(`child/${program}.ts`, import.meta.url));
  const child = spawn("unshare", [UNSHARE, process.execPath, "--conditions=source", file], {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 60_000,
    killSignal: "SIGKILL",
  });
  const [out, err] = await Promise.all([textOf(child.stdout), textOf(child.stderr), once(child, "close")]);
  if (child.exitCode !== 0 || err !== "") throw new Error(`${program}: status ${child.exitCode}: ${err}`);
  return JSON.parse(out) as T;
}

async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
